// Causal attention inside segments, backward, first half: delta and the gradient of the queries.
//   delta_t = dout_t . out_t;   p_ts = exp(scale q_t . k_s - lse_t);   ds_ts = p_ts (dout_t . v_s - delta_t)
//   dq_t = scale sum_s ds_ts k_s, over the tokens s <= t of t's segment.
// Source: Dao 2307.08691, section 3.1.2. Probabilities are computed again from q, k and lse; no score is ever stored.
//
// `delta` also writes where each token's segment begins: index buffers are checked and reported here, once for both halves.
// `dq` works as the forward kernel does (see attention_forward.cu): a block owns `owned` queries of one head and walks
// the keys, here in pairs of a key tile and a value tile, one pair being copied (cp.async) while the other is multiplied.
// FLOPs of dq: 6 head_dim heads per visible pair of tokens, plus what tiles round up to; three times as many for f32
// storage.
// Bytes: delta reads dout and out once, which is its floor. dq reads q and dout once, and k and v once for each query
// tile that sees them.
// A block, heads of 32, 64, 128, 256 elements, as compiled for sm_80 (sm_90a and sm_100a spill nothing either):
//   f32    128 (256: 64) threads, 32 64 80 96 KiB of shared memory, 153 143 142 206 registers, 12 8 8 2 warps an A100 SM
//   bf16   128 threads, 49 49 64 96 KiB of shared memory, 156 219 164 227 registers, 12 8 8 4 warps
//   delta  256 threads, no shared memory, 32 (f32) and 42 (bf16) registers, 64 and 40 warps
// Alignment, determinism and limits are those of the forward kernel. For bf16 storage ds is rounded to bf16 before it
// meets k.
#include "common/attention/output.cuh"
#include "common/attention/products.cuh"
#include "common/attention/segments.cuh"
#include "common/vector.cuh"

namespace emo::attention {

// EMO_ATTENTION_DELTA_LANES lanes share a token's head. The order of the sum is the same for both ways to load.
template <class T> __device__ __forceinline__ void delta(const EmoAttentionBackward &p) {
    constexpr int EACH = WIDE<T>, LANES = EMO_ATTENTION_DELTA_LANES;
    const EmoAttentionShape &shape = p.shape;
    const size_t rows = size_t(shape.tokens) * shape.heads;
    const size_t row = size_t(blockIdx.x) * (EMO_ATTENTION_DELTA_THREADS / LANES) + threadIdx.x / LANES;
    const T *const out = static_cast<const T *>(p.out) + row * shape.head_dim;
    const T *const dout = static_cast<const T *>(p.dout) + row * shape.head_dim;
    const uint32_t end = row < rows ? shape.head_dim : 0;
    float sum = 0.0f;
    for (uint32_t first = threadIdx.x % LANES * EACH; first < end; first += LANES * EACH) {
        float a[EACH], b[EACH];
        if (shape.wide != 0) {
            load(a, out + first);
            load(b, dout + first);
        } else {
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                a[i] = first + i < end ? widen(out[first + i]) : 0.0f;
                b[i] = first + i < end ? widen(dout[first + i]) : 0.0f;
            }
        }
#pragma unroll
        for (int i = 0; i < EACH; ++i) sum = fmaf(a[i], b[i], sum);
    }
#pragma unroll
    for (int mask = LANES / 2; mask > 0; mask /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, mask);
    if (row >= rows || threadIdx.x % LANES != 0) return;
    p.delta[row] = sum;
    if (row % shape.heads == 0) {
        const uint32_t token = static_cast<uint32_t>(row / shape.heads);
        p.starts[token] = segment_start(shape, token);
    }
}

template <class T, int WIDTH, int OWNED, int MT, int STREAMED>
__device__ __forceinline__ void dq(const EmoAttentionBackward &p) {
    constexpr int THREADS = OWNED / (16 * MT) * WARP, NT = STREAMED / 8, OT = WIDTH / 8;
    using Queries = Tile<T, OWNED, WIDTH>;
    using Keys = Tile<T, STREAMED, WIDTH>;
    extern __shared__ __align__(128) char shared[];
    char *const queries = shared, *const douts = queries + Queries::BYTES, *const ring = douts + Queries::BYTES;
    uint32_t *const starts = reinterpret_cast<uint32_t *>(ring + 4 * Keys::BYTES);

    const EmoAttentionShape &shape = p.shape;
    const bool wide = shape.wide != 0;
    const uint32_t head = blockIdx.x % shape.heads, d = shape.head_dim;
    const uint32_t first = (gridDim.x / shape.heads - 1 - blockIdx.x / shape.heads) * OWNED;
    const size_t stride = size_t(shape.heads + 2 * shape.kv_heads) * d, out_stride = size_t(shape.heads) * d;
    const T *const qkv = static_cast<const T *>(p.qkv);
    const uint32_t kv_head = head / (shape.heads / shape.kv_heads);
    const T *const k = qkv + size_t(shape.heads + kv_head) * d, *const v = k + size_t(shape.kv_heads) * d;

    Queries::template fill<THREADS>(queries, qkv + first * stride + size_t(head) * d, stride, shape.tokens - first, d,
                                    wide);
    Queries::template fill<THREADS>(douts, static_cast<const T *>(p.dout) + first * out_stride + size_t(head) * d,
                                    out_stride, shape.tokens - first, d, wide);
    for (uint32_t row = threadIdx.x; row < OWNED; row += THREADS) {
        // A query behind the last token is alone.
        starts[row] = first + row < shape.tokens ? p.starts[first + row] : first + row;
    }
    __syncthreads();
    const uint32_t from = least<OWNED>(starts), until = min(first + OWNED, shape.tokens);
    const uint32_t tiles = (until - from + STREAMED - 1) / STREAMED;
    const auto start_copy = [&](uint32_t tile) {
        if (tile < tiles) {
            const uint32_t key = from + tile * STREAMED;
            char *const place = ring + tile % 2 * 2 * Keys::BYTES;
            Keys::template fill<THREADS>(place, k + key * stride, stride, until - key, d, wide);
            Keys::template fill<THREADS>(place + Keys::BYTES, v + key * stride, stride, until - key, d, wide);
        }
        ptx::copy_commit();
    };
    start_copy(0);

    const int row0 = threadIdx.x / WARP * 16 * MT;
    const uint32_t warp_first = first + row0;
    const uint32_t earliest = least<16 * MT>(starts + row0), latest = greatest<16 * MT>(starts + row0);
    float sum[MT][OT][4] = {}, log2_total[MT][2], along[MT][2];
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint32_t token = warp_first + 16 * m + 8 * half + lane() / 4;
            const size_t at = size_t(token) * shape.heads + head;
            log2_total[m][half] = token < shape.tokens ? p.lse[at] * LOG2_E : 0.0f;
            along[m][half] = token < shape.tokens ? p.delta[at] : 0.0f;
        }
    }
    const float log2_scale = shape.scale * LOG2_E;

    for (uint32_t tile = 0; tile < tiles; ++tile) {
        // This tile has arrived, and every warp has left the one before it.
        ptx::copy_wait<0>();
        __syncthreads();
        start_copy(tile + 1);
        const uint32_t key0 = from + tile * STREAMED;
        if (key0 >= warp_first + 16 * MT || key0 + STREAMED <= earliest) continue;
        const char *const keys = ring + tile % 2 * 2 * Keys::BYTES, *const values = keys + Keys::BYTES;
        float s[MT][NT][4] = {}, ds[MT][NT][4] = {};
        rows_by_rows<T, WIDTH>(s, queries, row0, keys);
        if (key0 + STREAMED > warp_first + 1 || key0 < latest) mask(s, starts + row0, warp_first, key0);
        rows_by_rows<T, WIDTH>(ds, douts, row0, values);
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
            for (int n = 0; n < NT; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float weight = exp2_fast(fmaf(s[m][n][i], log2_scale, -log2_total[m][i / 2]));
                    ds[m][n][i] = weight * (ds[m][n][i] - along[m][i / 2]);
                }
            }
        }
        scores_by_rows<T, WIDTH>(sum, ds, keys);
    }
    T *const target = static_cast<T *>(p.dqkv) + size_t(head) * d;
    store_rows<T, WIDTH>(target, stride, warp_first, shape.tokens, d, sum, shape.scale, wide);
}

}  // namespace emo::attention

EMO_KERNEL_EACH_STORAGE(emo_attention_delta, EMO_ATTENTION_DELTA_THREADS, EmoAttentionBackward, emo::attention::delta)

#define EMO_ATTENTION_DQ_KERNEL(pass, storage, bytes, width, owned, tiles, streamed, blocks)                          \
    extern "C" __global__ void __launch_bounds__((owned) / (16 * (tiles)) * 32, blocks)                               \
        EMO_ATTENTION_ENTRY(dq, storage, width)(const __grid_constant__ EmoAttentionBackward p) {                     \
        emo::attention::dq<EMO_ATTENTION_TYPE_##storage, width, owned, tiles, streamed>(p);                           \
    }
EMO_ATTENTION_EACH_DQ(EMO_ATTENTION_DQ_KERNEL)

// Causal attention inside segments, backward, second half: the gradients of the keys and values.
//   p_ts = exp(scale q_t . k_s - lse_t);   ds_ts = p_ts (dout_t . v_s - delta_t)
//   dv_s = sum_t p_ts dout_t;   dk_s = scale sum_t ds_ts q_t
// over the tokens t >= s of s's segment and over the query heads that read s's head.
// Source: Dao 2307.08691, section 3.1.2, with another owner: a block owns `owned` keys of one key head and walks the
// queries of all heads of the group in a fixed order, so that no gradient needs atomics. What that costs: dq, in a pass
// of its own (see attention_backward_queries.cu), computes scores again: 7 products where 5 would do.
//
// Scores are computed transposed, keys by queries, so that they stay in registers as the left operand of the second
// products.
// A pair of a query tile and a dout tile is copied (cp.async) with the queries' lse, delta and segment starts while the
// pair before it is multiplied. Both gradients of heads of 256 do not fit the registers: there the queries are walked
// twice, for dv, then for dk.
// FLOPs: 8 head_dim heads per visible pair of tokens (10 for heads of 256), plus what tiles round up to; three times as
// many for f32.
// Bytes: k and v read once, dk and dv written once; q and dout once for each key tile that they see.
// A block, heads of 32, 64, 128, 256 elements, as compiled for sm_80 (sm_90a and sm_100a spill nothing either):
//   f32    128 (256: 64) threads, 33 65 80 96 KiB of shared memory, 184 220 237 206 registers, 8 8 8 2 warps an A100 SM
//   bf16   128 threads, 49 40 65 96 KiB of shared memory, 196 234 241 255 registers, 8 8 8 4 warps
// Alignment, determinism and limits are those of the forward kernel. For bf16 storage p and ds are rounded to bf16 before
// the second products.
#include "common/attention/output.cuh"
#include "common/attention/products.cuh"
#include "common/attention/segments.cuh"

namespace emo::attention {

// Scores, keys by queries, to probabilities; a query that does not see a key weighs nothing.
template <int MT, int NT>
__device__ __forceinline__ void weigh(float (&s)[MT][NT][4], const float *lse, const uint32_t *starts,
                                      uint32_t first_key, uint32_t query0, uint32_t tokens, bool whole,
                                      float log2_scale) {
#pragma unroll
    for (int n = 0; n < NT; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int column = 8 * n + 2 * (lane() % 4) + i;
            const float log2_total = lse[column] * LOG2_E;
            const uint32_t start = starts[column], query = query0 + column;
#pragma unroll
            for (int m = 0; m < MT; ++m) {
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    float &x = s[m][n][2 * half + i];
                    const uint32_t key = first_key + 16 * m + 8 * half + lane() / 4;
                    // Keys before the start wrap around.
                    const bool seen = whole || (key - start <= query - start && query < tokens);
                    x = seen ? exp2_fast(fmaf(x, log2_scale, -log2_total)) : 0.0f;
                }
            }
        }
    }
}

// One walk over the queries: KEYS for dk, VALUES for dv.
template <class T, int WIDTH, int OWNED, int MT, int STREAMED, bool KEYS, bool VALUES>
__device__ __forceinline__ void walk(const EmoAttentionBackward &p, char *shared, uint32_t first, uint32_t kv_head) {
    constexpr int THREADS = OWNED / (16 * MT) * WARP, NT = STREAMED / 8, OT = WIDTH / 8;
    using Owned = Tile<T, OWNED, WIDTH>;
    using Queries = Tile<T, STREAMED, WIDTH>;
    const char *const keys = shared, *const values = keys + Owned::BYTES;
    char *const ring = shared + 2 * Owned::BYTES;
    // For each place of the ring: lse, delta, starts.
    uint32_t *const words = reinterpret_cast<uint32_t *>(ring + 4 * Queries::BYTES);

    const EmoAttentionShape &shape = p.shape;
    const bool wide = shape.wide != 0;
    const uint32_t d = shape.head_dim, group = shape.heads / shape.kv_heads;
    const size_t stride = size_t(shape.heads + 2 * shape.kv_heads) * d, out_stride = size_t(shape.heads) * d;
    const uint32_t last = min(first + OWNED, shape.tokens) - 1;
    const uint32_t until = segment_end(shape, last), first_end = segment_end(shape, first);
    const uint32_t tiles = (until - first + STREAMED - 1) / STREAMED, steps = tiles * group;
    const auto start_copy = [&](uint32_t step) {
        if (step < steps) {
            const uint32_t head = kv_head * group + step / tiles, query = first + step % tiles * STREAMED;
            char *const place = ring + step % 2 * 2 * Queries::BYTES;
            const T *const q = static_cast<const T *>(p.qkv) + query * stride + size_t(head) * d;
            const T *const dout = static_cast<const T *>(p.dout) + query * out_stride + size_t(head) * d;
            Queries::template fill<THREADS>(place, q, stride, shape.tokens - query, d, wide);
            Queries::template fill<THREADS>(place + Queries::BYTES, dout, out_stride, shape.tokens - query, d, wide);
            static_assert(STREAMED <= THREADS, "a thread a word");
            if (threadIdx.x < STREAMED) {
                const uint32_t valid = query + threadIdx.x < shape.tokens ? 4 : 0;
                const uint32_t token = valid != 0 ? query + threadIdx.x : query;
                uint32_t *const word = words + step % 2 * 3 * STREAMED + threadIdx.x;
                const size_t at = size_t(token) * shape.heads + head;
                ptx::copy_async<4>(word, p.lse + at, valid);
                ptx::copy_async<4>(word + STREAMED, p.delta + at, valid);
                ptx::copy_async<4>(word + 2 * STREAMED, p.starts + token, valid);
            }
        }
        ptx::copy_commit();
    };
    start_copy(0);

    const int row0 = threadIdx.x / WARP * 16 * MT;
    const uint32_t warp_first = first + row0, warp_last = warp_first + 16 * MT - 1;
    const uint32_t warp_until = warp_first < shape.tokens ? segment_end(shape, min(warp_last, last)) : 0;
    float dk[MT][OT][4] = {}, dv[MT][OT][4] = {};
    const float log2_scale = shape.scale * LOG2_E;
    for (uint32_t step = 0; step < steps; ++step) {
        // This pair has arrived, and every warp has left the one before it.
        ptx::copy_wait<0>();
        __syncthreads();
        start_copy(step + 1);
        const uint32_t query0 = first + step % tiles * STREAMED;
        if (query0 + STREAMED <= warp_first || query0 >= warp_until) continue;
        const char *const queries = ring + step % 2 * 2 * Queries::BYTES, *const douts = queries + Queries::BYTES;
        const uint32_t *const own = words + step % 2 * 3 * STREAMED;
        float s[MT][NT][4] = {};
        rows_by_rows<T, WIDTH>(s, keys, row0, queries);
        const bool whole = query0 >= warp_last && query0 + STREAMED <= first_end;
        weigh(s, reinterpret_cast<const float *>(own), own + 2 * STREAMED, warp_first, query0, shape.tokens, whole,
              log2_scale);
        if constexpr (VALUES) scores_by_rows<T, WIDTH>(dv, s, douts);
        if constexpr (KEYS) {
            float ds[MT][NT][4] = {};
            rows_by_rows<T, WIDTH>(ds, values, row0, douts);
            const float *const delta = reinterpret_cast<const float *>(own + STREAMED);
#pragma unroll
            for (int n = 0; n < NT; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    const float along = delta[8 * n + 2 * (lane() % 4) + i % 2];
#pragma unroll
                    for (int m = 0; m < MT; ++m) ds[m][n][i] = s[m][n][i] * (ds[m][n][i] - along);
                }
            }
            scores_by_rows<T, WIDTH>(dk, ds, queries);
        }
    }
    T *const target = static_cast<T *>(p.dqkv) + size_t(shape.heads + kv_head) * d;
    if constexpr (KEYS) store_rows<T, WIDTH>(target, stride, warp_first, shape.tokens, d, dk, shape.scale, wide);
    if constexpr (VALUES) {
        store_rows<T, WIDTH>(target + size_t(shape.kv_heads) * d, stride, warp_first, shape.tokens, d, dv, 1.0f,
                             wide);
    }
}

template <class T, int WIDTH, int OWNED, int MT, int STREAMED>
__device__ __forceinline__ void dkv(const EmoAttentionBackward &p) {
    constexpr int THREADS = OWNED / (16 * MT) * WARP;
    using Owned = Tile<T, OWNED, WIDTH>;
    extern __shared__ __align__(128) char shared[];
    const EmoAttentionShape &shape = p.shape;
    const uint32_t kv_head = blockIdx.x % shape.kv_heads, first = blockIdx.x / shape.kv_heads * OWNED;
    const size_t stride = size_t(shape.heads + 2 * shape.kv_heads) * shape.head_dim;
    const T *const k =
        static_cast<const T *>(p.qkv) + first * stride + size_t(shape.heads + kv_head) * shape.head_dim;
    const uint32_t rows = shape.tokens - first;
    Owned::template fill<THREADS>(shared, k, stride, rows, shape.head_dim, shape.wide != 0);
    Owned::template fill<THREADS>(shared + Owned::BYTES, k + size_t(shape.kv_heads) * shape.head_dim, stride, rows,
                                  shape.head_dim, shape.wide != 0);
    if constexpr (WIDTH <= 128) {
        walk<T, WIDTH, OWNED, MT, STREAMED, true, true>(p, shared, first, kv_head);
    } else {
        walk<T, WIDTH, OWNED, MT, STREAMED, false, true>(p, shared, first, kv_head);
        // The ring's last pair may still be in use.
        __syncthreads();
        walk<T, WIDTH, OWNED, MT, STREAMED, true, false>(p, shared, first, kv_head);
    }
}

}  // namespace emo::attention

#define EMO_ATTENTION_DKV_KERNEL(pass, storage, bytes, width, owned, tiles, streamed, blocks)                         \
    extern "C" __global__ void __launch_bounds__((owned) / (16 * (tiles)) * 32, blocks)                               \
        EMO_ATTENTION_ENTRY(dkv, storage, width)(const __grid_constant__ EmoAttentionBackward p) {                    \
        emo::attention::dkv<EMO_ATTENTION_TYPE_##storage, width, owned, tiles, streamed>(p);                          \
    }
EMO_ATTENTION_EACH_DKV(EMO_ATTENTION_DKV_KERNEL)

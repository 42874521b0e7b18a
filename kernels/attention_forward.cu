// Causal attention inside segments, forward: out_t = sum_s softmax_s(scale q_t . k_s) v_s over the tokens s <= t of t's
// segment, lse_t = log sum_s exp(scale q_t . k_s), with an online softmax: no score is ever stored.
// Sources: Dao et al. 2205.14135, Dao 2307.08691 (tiles, online softmax); Ainslie et al. 2305.13245 (grouped queries).
//
// Work: a block owns `owned` queries of one head, whatever segments they lie in, and walks the keys from the start of its
// first query's segment to its last query, `streamed` at a time. A warp owns 16 or 32 queries; it sits out key tiles that
// none of them sees, and masks only tiles that some of them do not see wholly. Blocks with late queries, the long ones,
// start first.
// Pipeline: a ring of three tiles K0 V0 K1 V1 ...; two copies (cp.async) are in flight while one tile is multiplied.
// Layout: a row of qkv is [q heads | k heads | v heads]; out [tokens, heads head_dim]; lse [tokens, heads] in f32. Any
// sizes; with heads that begin at multiples of 16 bytes tiles move by cp.async, otherwise element by element. head_dim at
// most 256.
// FLOPs: 4 head_dim heads per visible pair of tokens, plus what tiles round up to; three times as many for f32 storage.
// Bytes: the floor is qkv read and out, lse written once. Moved are, beyond it, k and v once for each query tile that
// sees them (tiles of one sequence run together and share them in L2).
// A block, heads of 32, 64, 128, 256 elements, as compiled for sm_80 (sm_90a and sm_100a spill nothing either):
//   f32    128 threads, 20 40 80 88 KiB of shared memory, 100 123 180 208 registers, 16 12 8 4 warps an A100 SM
//   bf16   128 threads, 29 41 57 80 KiB of shared memory, 124 217 236 254 registers, 16 8 8 8 warps
// No block needs more than 99 KiB, what the smallest cards since sm_80 have.
// Determinism: every output has one owner and a fixed order of sums; nothing depends on the card or on the number of
// blocks.
// Limits: tiles of a block may hold other segments' keys with weight 0, so that an infinite or NaN value spoils the
// neighbours in its tile too. For f32 storage the rounding is that of f32; for bf16 the probabilities are rounded to bf16
// before they meet v.
#include "common/attention/output.cuh"
#include "common/attention/products.cuh"
#include "common/attention/segments.cuh"

namespace emo::attention {

// Scores to weights relative to a running maximum, and what was summed below an older maximum to the new one.
template <int MT, int NT, int OT>
__device__ __forceinline__ void online_softmax(float (&s)[MT][NT][4], float (&o)[MT][OT][4], float (&top)[MT][2],
                                               float (&sum)[MT][2], float log2_scale) {
#pragma unroll
    for (int m = 0; m < MT; ++m) {
        float keep[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float highest = top[m][half];
#pragma unroll
            for (int n = 0; n < NT; ++n) highest = fmaxf(highest, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            highest = fmaxf(highest, __shfl_xor_sync(ALL_LANES, highest, 1));
            highest = fmaxf(highest, __shfl_xor_sync(ALL_LANES, highest, 2));
            // A query that has seen no key yet keeps weights of 0. Rounded products: the same maximum keeps exactly 1.
            const float shift = highest == -INFINITY ? 0.0f : __fmul_rn(highest, log2_scale);
            keep[half] = exp2_fast(__fmul_rn(top[m][half], log2_scale) - shift);
            top[m][half] = highest;
            float added = 0.0f;
#pragma unroll
            for (int n = 0; n < NT; ++n) {
#pragma unroll
                for (int i = 2 * half; i < 2 * half + 2; ++i) {
                    s[m][n][i] = exp2_fast(fmaf(s[m][n][i], log2_scale, -shift));
                    added += s[m][n][i];
                }
            }
            sum[m][half] = sum[m][half] * keep[half] + added;
        }
        // Late tiles seldom bring a new maximum.
        if (__any_sync(ALL_LANES, keep[0] != 1.0f || keep[1] != 1.0f)) {
#pragma unroll
            for (int n = 0; n < OT; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) o[m][n][i] *= keep[i / 2];
            }
        }
    }
}

template <class T, int WIDTH, int OWNED, int MT, int STREAMED>
__device__ __forceinline__ void forward(const EmoAttentionForward &p) {
    constexpr int THREADS = OWNED / (16 * MT) * WARP, NT = STREAMED / 8, OT = WIDTH / 8;
    using Queries = Tile<T, OWNED, WIDTH>;
    using Keys = Tile<T, STREAMED, WIDTH>;
    extern __shared__ __align__(128) char shared[];
    char *const queries = shared, *const ring = shared + Queries::BYTES;
    uint32_t *const starts = reinterpret_cast<uint32_t *>(ring + 3 * Keys::BYTES);

    const EmoAttentionShape &shape = p.shape;
    const bool wide = shape.wide != 0;
    const uint32_t head = blockIdx.x % shape.heads, d = shape.head_dim;
    const uint32_t first = (gridDim.x / shape.heads - 1 - blockIdx.x / shape.heads) * OWNED;
    const size_t stride = size_t(shape.heads + 2 * shape.kv_heads) * d;
    const T *const qkv = static_cast<const T *>(p.qkv);
    const uint32_t kv_head = head / (shape.heads / shape.kv_heads);
    const T *const k = qkv + size_t(shape.heads + kv_head) * d, *const v = k + size_t(shape.kv_heads) * d;

    Queries::template fill<THREADS>(queries, qkv + first * stride + size_t(head) * d, stride, shape.tokens - first, d,
                                    wide);
    find_starts<OWNED>(starts, shape, first);
    __syncthreads();
    const uint32_t from = least<OWNED>(starts), until = min(first + OWNED, shape.tokens);
    const uint32_t tiles = (until - from + STREAMED - 1) / STREAMED;
    // Tile `at` of K0 V0 K1 V1 ... into its place in the ring; a group is committed whether or not there is one.
    const auto start_copy = [&](uint32_t at, int place) {
        if (at < 2 * tiles) {
            const uint32_t key = from + at / 2 * STREAMED;
            Keys::template fill<THREADS>(ring + place * Keys::BYTES, (at % 2 == 0 ? k : v) + key * stride, stride,
                                         until - key, d, wide);
        }
        ptx::copy_commit();
    };
    start_copy(0, 0);
    start_copy(1, 1);

    const int row0 = threadIdx.x / WARP * 16 * MT;
    const uint32_t warp_first = first + row0;
    const uint32_t earliest = least<16 * MT>(starts + row0), latest = greatest<16 * MT>(starts + row0);
    float o[MT][OT][4] = {}, top[MT][2], sum[MT][2];
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            top[m][half] = -INFINITY;
            sum[m][half] = 0.0f;
        }
    }
    const float log2_scale = shape.scale * LOG2_E;

    int place = 0;
    // Waits for the ring's next tile and starts to fill the place of the one before it, which every warp has left.
    const auto advance = [&](uint32_t at) {
        ptx::copy_wait<1>();
        __syncthreads();
        start_copy(at + 2, place == 0 ? 2 : place - 1);
        const char *const tile = ring + place * Keys::BYTES;
        place = place == 2 ? 0 : place + 1;
        return tile;
    };
    for (uint32_t tile = 0; tile < tiles; ++tile) {
        const uint32_t key0 = from + tile * STREAMED;
        const bool seen = key0 < warp_first + 16 * MT && key0 + STREAMED > earliest;
        float s[MT][NT][4] = {};
        const char *const keys = advance(2 * tile);
        if (seen) {
            rows_by_rows<T, WIDTH>(s, queries, row0, keys);
            if (key0 + STREAMED > warp_first + 1 || key0 < latest) mask(s, starts + row0, warp_first, key0);
            online_softmax(s, o, top, sum, log2_scale);
        }
        const char *const values = advance(2 * tile + 1);
        if (seen) scores_by_rows<T, WIDTH>(o, s, values);
    }

#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            float total = sum[m][half];
            total += __shfl_xor_sync(ALL_LANES, total, 1);
            total += __shfl_xor_sync(ALL_LANES, total, 2);
            const uint32_t token = warp_first + 16 * m + 8 * half + lane() / 4;
            if (token >= shape.tokens) continue;
            const float factor = 1.0f / total;
            const size_t at = size_t(token) * shape.heads + head;
            if (lane() % 4 == 0) p.lse[at] = fmaf(top[m][half], shape.scale, logf(total));
            T *const row = static_cast<T *>(p.out) + at * d;
#pragma unroll
            for (int n = 0; n < OT; ++n) {
                store_pair(row, 8 * n + 2 * (lane() % 4), d, o[m][n][2 * half] * factor, o[m][n][2 * half + 1] * factor,
                           wide);
            }
        }
    }
}

}  // namespace emo::attention

#define EMO_ATTENTION_FORWARD_KERNEL(pass, storage, bytes, width, owned, tiles, streamed, blocks)                     \
    extern "C" __global__ void __launch_bounds__((owned) / (16 * (tiles)) * 32, blocks)                               \
        EMO_ATTENTION_ENTRY(forward, storage, width)(const __grid_constant__ EmoAttentionForward p) {                 \
        emo::attention::forward<EMO_ATTENTION_TYPE_##storage, width, owned, tiles, streamed>(p);                      \
    }
EMO_ATTENTION_EACH_FORWARD(EMO_ATTENTION_FORWARD_KERNEL)

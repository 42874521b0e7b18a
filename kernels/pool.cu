// Document pools: every document chooses the experts that its tokens may use.
//
//   score_D[i] = sum over t in D of softmax((logits_t + bias) / temperature)_i       over the routed experts
//   keep[D]    = the last `forced` experts, then the best others by score until `size` are kept; ties: the lower index
//   entropy[D] = -sum over i of p_i ln p_i, p = score_D / (sum of score_D); 0 without scores
//
// Two launches, nothing on the host between them. `emo_pool_partial` has a block for every `block` tokens of the batch and
// adds what documents longer than that have in it; `emo_pool_keep` has a block for every document, adds its tokens (or its
// partial rows) and ranks the experts by counting those ahead of each. Scores are f64, as in the specification, because a
// pool hangs on their order; they are stored as f32. The order of a sum depends on sizes alone. The first warp adds up the
// entropy. A NaN among the logits of a token makes the scores of its document NaN, which are ahead of none and behind none.
//
// With smoothing in front, a block smooths the tokens it adds through shared memory and writes them, for the router to read.
//
// Layout: rows dense, no alignment. Reads 4 E bytes a token once and 16 E_r / block more; writes 5 E_r bytes a document.
// FLOPs: about 30 f64 an element, the exponential; E_r^2 comparisons a document. Limits: E_r <= 1024.
#include "common/segment_sum.cuh"
#include "common/smoothing_tile.cuh"
#include "common/status.cuh"
#include "include/pool.h"

namespace emo {
namespace {

static_assert(EMO_POOL_THREADS == SUM_WARPS * WARP, "a block has the warps of a sum");
static_assert(int(EMO_POOL_THREADS) == int(EMO_SMOOTHING_THREADS), "a block smooths the tokens that it adds");

// Adds softmax((logits + bias) / temperature) of a token, which a warp computes.
template <int N> struct Softmax {
    const EmoPool &p;
    SmoothingTile &tile;

    // Smooths the logits of these tokens. Every token is in one range.
    __device__ __forceinline__ void prepare(Range range) const {
        if (p.smoothing.x) smooth_all(p.smoothing, range.start, range.end, tile);
    }

    __device__ __forceinline__ void operator()(uint32_t token, uint32_t lane, double (&sum)[N]) const {
        const float *logits = p.logits + static_cast<size_t>(token) * p.experts;
        double e[N], greatest = -INFINITY;
        bool any = false;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const uint32_t expert = j * WARP + lane;
            e[j] = -INFINITY;
            if (expert < p.routed) {
                const double bias = p.bias ? p.bias[expert] : 0.0f;
                e[j] = (static_cast<double>(logits[expert]) + bias) / p.temperature;
            }
            // NaN is not -inf, and never the greatest.
            any = any || e[j] != -INFINITY;
            greatest = e[j] > greatest ? e[j] : greatest;
        }
        greatest = warp_max(greatest);
        if (!__any_sync(ALL_LANES, any)) return;
        double total = 0.0;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const bool exists = j * WARP + lane < p.routed;
            e[j] = exists ? exp(e[j] - greatest) : 0.0;
            total += e[j];
        }
        const double factor = 1.0 / warp_sum(total);
#pragma unroll
        for (int j = 0; j < N; ++j) sum[j] += e[j] * factor;
    }
};

template <int N> __device__ __forceinline__ void partial(const EmoPool &p) {
    __shared__ SmoothingTile tile;
    sum_crossing<N>(p.offsets, p.segments, p.tokens, p.block, p.routed, p.routed, p.partial, Softmax<N>{p, tile});
}

// The entropy of the scores divided by their sum; every lane of the one warp that calls it gets it.
__device__ __forceinline__ double entropy(const double *score, uint32_t routed, uint32_t lane) {
    double total = 0.0, sum = 0.0;
    for (uint32_t i = lane; i < routed; i += WARP) total += score[i];
    total = warp_sum(total);
    for (uint32_t i = lane; i < routed; i += WARP) {
        const double part = score[i] / total;
        if (score[i] != 0.0) sum -= part * log(part);
    }
    return warp_sum(sum);
}

template <int N> __device__ __forceinline__ void keep(const EmoPool &p) {
    __shared__ double score[EMO_POOL_MAX_ROUTED];
    __shared__ SmoothingTile tile;
    const uint32_t segment = blockIdx.x;
    Range range{p.offsets[segment], p.offsets[segment + 1]};
    // Offsets ascend and end at the number of tokens; a document that does not fit has no tokens.
    const bool fits = below(p.status, EMO_SITE_POOL_OFFSETS, segment + 1, range.end, p.tokens + 1) &&
                      below(p.status, EMO_SITE_POOL_OFFSETS, segment, range.start, range.end + 1);
    if (!fits) range = Range{0, 0};
    float *scores = p.scores + static_cast<size_t>(segment) * p.routed;
    sum_document<N>(range, p.block, p.routed, p.routed, p.partial, Softmax<N>{p, tile}, [&](uint32_t column, double sum) {
        score[column] = sum;
        scores[column] = static_cast<float>(sum);
    });
    __syncthreads();
    if (p.entropy && threadIdx.x < WARP) {
        const double found = entropy(score, p.routed, threadIdx.x);
        if (threadIdx.x == 0) p.entropy[segment] = static_cast<float>(found);
    }
    const uint32_t free = p.routed - p.forced, size = p.sizes[segment];
    const uint32_t places = size > p.forced ? size - p.forced : 0;
    for (uint32_t i = threadIdx.x; i < p.routed; i += EMO_POOL_THREADS) {
        bool kept = i >= free || places >= free;
        if (!kept) {
            const double own = score[i];
            uint32_t ahead = 0;
            for (uint32_t j = 0; j < free; ++j) ahead += score[j] > own || (score[j] == own && j < i);
            kept = ahead < places;
        }
        p.keep[static_cast<size_t>(segment) * p.routed + i] = kept;
    }
}

// The finaliser of SplitMix64.
__device__ __forceinline__ uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

}  // namespace
}  // namespace emo

// One entry point a number of registers: the least that holds the routed experts.
#define EMO_POOL(ROUTED, BLOCKS)                                                                   \
    extern "C" __global__ void __launch_bounds__(EMO_POOL_THREADS, BLOCKS)                         \
        emo_pool_partial_##ROUTED(const __grid_constant__ EmoPool p) {                             \
        emo::partial<ROUTED / 32>(p);                                                              \
    }                                                                                              \
    extern "C" __global__ void __launch_bounds__(EMO_POOL_THREADS, BLOCKS)                         \
        emo_pool_keep_##ROUTED(const __grid_constant__ EmoPool p) {                                \
        emo::keep<ROUTED / 32>(p);                                                                 \
    }
EMO_POOL(128, 2)
EMO_POOL(256, 2)
EMO_POOL(1024, 1)

// Pool sizes from the counter-based generator of `emo::ops::pool::draw_size`, with the same bits.
extern "C" __global__ void __launch_bounds__(EMO_POOL_THREADS) emo_pool_sizes(const __grid_constant__ EmoPoolSizes p) {
    const uint32_t i = blockIdx.x * EMO_POOL_THREADS + threadIdx.x;
    if (i >= p.count) return;
    const uint64_t words[4] = {p.seed, p.step, p.layer, p.documents[i]};
    uint64_t state = 0x9e3779b97f4a7c15ull;
#pragma unroll
    for (int word = 0; word < 4; ++word) state = emo::mix(state ^ emo::mix(words[word] + 0x9e3779b97f4a7c15ull));
    // state * span / 2^64; with all 2^32 sizes the span itself still fits 64 bits.
    p.sizes[i] = p.min + static_cast<uint32_t>(__umul64hi(state, static_cast<uint64_t>(p.max - p.min) + 1));
}

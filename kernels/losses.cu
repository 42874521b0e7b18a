// Losses on the router's scores p [T, E_r]. Each adds its value to a loss and its gradient to dprobs, through which the
// router's backward pass applies the score's Jacobian once for all of them. Formulas: docs/losses.md.
//
//   load balance            c sum_i counts_i sum_t p_ti
//   mutual information      w_token mean_t H(p_t) - w_marginal H(mean_t p_t)       H(p) = -sum p log(p + 1e-10)
//   sequence consistency    c / pairs sum |p_t - p_(t-1)|^2 inside documents
//   domain consistency      c sum_D n_D / T |mean_D p - mean_domain(D) p|^2
//
// A warp takes a token and strides over its experts. A block owns consecutive tokens; how many does not depend on the card.
// Losses and means go in two stages: block sums in f64 to scratch memory, then those in order (`emo_sum_rows` for a loss).
// A loss's divisor that only the device knows (valid tokens, pairs) is summed by each block that needs it.
//
// Layout: rows dense, f32, no alignment; any E_r. Reads p and dprobs, writes dprobs: the floor; mutual information and
// domain consistency read p twice. FLOPs: 2 to 30 an element.
#include "common/segment_sum.cuh"
#include "common/status.cuh"
#include "include/losses.h"

namespace emo {
namespace {

static_assert(EMO_LOSS_WARPS == SUM_WARPS, "a block has the warps of a sum");

// Keeps the logarithm of an unused expert finite.
constexpr double EPSILON = 1e-10;

// Calls `token(t, lane)` for the block's valid tokens, a warp each, and leaves the sum of what it returns over tokens and
// lanes, times `scale`, in `*partial`.
template <class Token>
__device__ __forceinline__ void each_token(const EmoScores &p, double scale, double *partial, const Token &token) {
    __shared__ double scratch[EMO_LOSS_WARPS];
    const uint32_t lane = threadIdx.x % WARP, first = blockIdx.x * p.block;
    const uint32_t count = p.tokens - first < p.block ? p.tokens - first : p.block;
    double sum = 0.0;
    for (uint32_t i = threadIdx.x / WARP; i < count; i += EMO_LOSS_WARPS) {
        const uint32_t t = first + i;
        if (!p.valid || p.valid[t]) sum += token(t, lane);
    }
    sum = block_sum<double, EMO_LOSS_THREADS>(sum, scratch);
    if (threadIdx.x == 0) *partial = scale * sum;
}

// The sum of `rows` entries `pitch` apart, for every thread, in a fixed order.
__device__ __forceinline__ double sum_of(const double *entries, uint32_t rows, size_t pitch) {
    __shared__ double scratch[EMO_LOSS_WARPS];
    double sum = 0.0;
    for (uint32_t row = threadIdx.x; row < rows; row += EMO_LOSS_THREADS) sum += entries[row * pitch];
    return block_sum<double, EMO_LOSS_THREADS>(sum, scratch);
}

// Adds one column of the scores of a token.
struct Column {
    const EmoScores &p;
    uint32_t base;

    __device__ __forceinline__ void prepare(Range) const {}
    __device__ __forceinline__ void operator()(uint32_t token, uint32_t lane, double (&sum)[1]) const {
        const uint32_t column = base + lane;
        if (column < p.routed && (!p.valid || p.valid[token])) {
            sum[0] += static_cast<double>(p.probs[static_cast<size_t>(token) * p.routed + column]);
        } else if (column == p.routed) {
            sum[0] += !p.valid || p.valid[token] ? 1.0 : 0.0;
        }
    }
};

__device__ __forceinline__ float squared_step(const EmoScores &p, size_t own, const float *other, float factor,
                                              uint32_t lane) {
    float sum = 0.0f;
    for (uint32_t e = lane; e < p.routed; e += WARP) {
        const float step = p.probs[own + e] - other[e];
        sum += step * step;
        p.dprobs[own + e] += factor * step;
    }
    return sum;
}

}  // namespace
}  // namespace emo

using namespace emo;

extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_load_balance(const __grid_constant__ EmoLoadBalance p) {
    const float coefficient = static_cast<float>(p.coefficient);
    each_token(p.scores, p.coefficient, &p.partial[blockIdx.x], [&](uint32_t t, uint32_t lane) {
        const size_t row = static_cast<size_t>(t) * p.scores.routed;
        float sum = 0.0f;
        for (uint32_t e = lane; e < p.scores.routed; e += WARP) {
            sum += p.counts[e] * p.scores.probs[row + e];
            p.scores.dprobs[row + e] += coefficient * p.counts[e];
        }
        return static_cast<double>(sum);
    });
}

// Column sums over the valid tokens of a block of tokens, and how many those are. Blocks: (tokens, 32 columns).
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_information_sums(const __grid_constant__ EmoMutualInformation p) {
    const uint32_t first = blockIdx.x * p.scores.block, base = blockIdx.y * WARP, columns = p.scores.routed + 1;
    const uint32_t end = p.scores.tokens - first < p.scores.block ? p.scores.tokens : first + p.scores.block;
    double *row = p.sums + static_cast<size_t>(blockIdx.x) * columns + base;
    sum_range<1>(Range{first, end}, Column{p.scores, base}, columns - base,
                 [=](uint32_t column, double sum) { row[column] = sum; });
}

// The mean score of each expert: what its entropy adds to the loss, and its gradient. A thread an expert.
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_information_means(const __grid_constant__ EmoMutualInformation p) {
    const uint32_t columns = p.scores.routed + 1;
    const double tokens = sum_of(p.sums + p.scores.routed, p.scores.blocks, columns);
    const uint32_t e = blockIdx.x * EMO_LOSS_THREADS + threadIdx.x;
    if (e >= p.scores.routed) return;
    double sum = 0.0;
    for (uint32_t block = 0; block < p.scores.blocks; ++block) sum += p.sums[static_cast<size_t>(block) * columns + e];
    const double mean = tokens > 0.0 ? sum / tokens : 0.0, logarithm = log(mean + EPSILON);
    p.partial[p.scores.blocks + e] = p.marginal_weight * mean * logarithm;
    p.slopes[e] = tokens > 0.0 ? p.marginal_weight * (logarithm + mean / (mean + EPSILON)) / tokens : 0.0;
}

extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_information_tokens(const __grid_constant__ EmoMutualInformation p) {
    const double tokens = sum_of(p.sums + p.scores.routed, p.scores.blocks, p.scores.routed + 1);
    const double weight = tokens > 0.0 ? p.token_weight / tokens : 0.0;
    const float factor = static_cast<float>(weight), epsilon = static_cast<float>(EPSILON);
    each_token(p.scores, -weight, &p.partial[blockIdx.x], [&](uint32_t t, uint32_t lane) {
        const size_t row = static_cast<size_t>(t) * p.scores.routed;
        float sum = 0.0f;
        for (uint32_t e = lane; e < p.scores.routed; e += WARP) {
            const float score = p.scores.probs[row + e], shifted = score + epsilon, logarithm = logf(shifted);
            sum += score * logarithm;
            p.scores.dprobs[row + e] += static_cast<float>(p.slopes[e]) - factor * (logarithm + score / shifted);
        }
        return static_cast<double>(sum);
    });
}

// Neighbours in one document.
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_sequence_pairs(const __grid_constant__ EmoSequenceConsistency p) {
    __shared__ double scratch[EMO_LOSS_WARPS];
    const uint32_t first = blockIdx.x * p.scores.block;
    const uint32_t end = p.scores.tokens - first < p.scores.block ? p.scores.tokens : first + p.scores.block;
    double pairs = 0.0;
    for (uint32_t t = first + threadIdx.x; t < end; t += EMO_LOSS_THREADS) {
        pairs += t > 0 && p.of_token[t] == p.of_token[t - 1] ? 1.0 : 0.0;
    }
    pairs = block_sum<double, EMO_LOSS_THREADS>(pairs, scratch);
    if (threadIdx.x == 0) p.pairs[blockIdx.x] = pairs;
}

extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_sequence_tokens(const __grid_constant__ EmoSequenceConsistency p) {
    const double pairs = sum_of(p.pairs, p.scores.blocks, 1);
    const double weight = pairs > 0.0 ? p.coefficient / pairs : 0.0;
    const float factor = static_cast<float>(2.0 * weight);
    each_token(p.scores, weight, &p.partial[blockIdx.x], [&](uint32_t t, uint32_t lane) {
        const uint32_t segment = p.of_token[t], routed = p.scores.routed;
        const size_t own = static_cast<size_t>(t) * routed;
        float sum = 0.0f;
        if (t > 0 && p.of_token[t - 1] == segment) {
            sum = squared_step(p.scores, own, p.scores.probs + own - routed, factor, lane);
        }
        if (t + 1 < p.scores.tokens && p.of_token[t + 1] == segment) {
            squared_step(p.scores, own, p.scores.probs + own + routed, factor, lane);
        }
        return static_cast<double>(sum);
    });
}

// Mean scores of documents: first the parts of those that cross blocks of tokens. Blocks: (tokens, 32 columns).
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_domain_crossing(const __grid_constant__ EmoDomainConsistency p) {
    const uint32_t base = blockIdx.y * WARP, routed = p.scores.routed;
    sum_crossing<1>(p.offsets, p.segments, p.scores.tokens, p.scores.block, routed - base, routed, p.crossing + base,
                    Column{p.scores, base});
}

// Blocks: (documents, 32 columns).
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_domain_documents(const __grid_constant__ EmoDomainConsistency p) {
    const uint32_t segment = blockIdx.x, base = blockIdx.y * WARP, routed = p.scores.routed;
    const uint32_t columns = routed - base < WARP ? routed - base : WARP;
    Range range{p.offsets[segment], p.offsets[segment + 1]};
    const bool fits = below(p.status, EMO_SITE_LOSS_OFFSETS, segment + 1, range.end, p.scores.tokens + 1) &&
                      below(p.status, EMO_SITE_LOSS_OFFSETS, segment, range.start, range.end + 1);
    if (!fits) range = Range{0, 0};
    const double count = range.count() == 0 ? 1.0 : range.count();
    float *mean = p.means + static_cast<size_t>(segment) * routed + base;
    sum_document<1>(range, p.scores.block, columns, routed, p.crossing + base, Column{p.scores, base},
                    [=](uint32_t column, double sum) { mean[column] = static_cast<float>(sum / count); });
}

// Mean scores of domains: a thread a column. Blocks: (domains, 256 columns).
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_domain_means(const __grid_constant__ EmoDomainConsistency p) {
    const uint32_t e = blockIdx.y * EMO_LOSS_THREADS + threadIdx.x, routed = p.scores.routed;
    if (e >= routed) return;
    double sum = 0.0, total = 0.0;
    for (uint32_t segment = 0; segment < p.segments; ++segment) {
        if (p.domain[segment] != blockIdx.x) continue;
        const double tokens = Range{p.offsets[segment], p.offsets[segment + 1]}.count();
        total += tokens;
        sum += tokens * static_cast<double>(p.means[static_cast<size_t>(segment) * routed + e]);
    }
    p.means[(static_cast<size_t>(p.segments) + blockIdx.x) * routed + e] =
        total > 0.0 ? static_cast<float>(sum / total) : 0.0f;
}

// The gradient through a domain's mean is zero: the mean is weighted by tokens, so the pulls of its documents cancel.
extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_domain_tokens(const __grid_constant__ EmoDomainConsistency p) {
    const double weight = p.coefficient / static_cast<double>(p.scores.tokens);
    const float factor = static_cast<float>(2.0 * weight);
    each_token(p.scores, weight, &p.partial[blockIdx.x], [&](uint32_t t, uint32_t lane) {
        const uint32_t segment = p.of_token[t], routed = p.scores.routed;
        if (!below(p.status, EMO_SITE_LOSS_SEGMENT, t, segment, p.segments)) return 0.0;
        const uint32_t domain = p.domain[segment];
        if (!below(p.status, EMO_SITE_LOSS_DOMAIN, segment, domain, p.domains)) return 0.0;
        const float *own = p.means + static_cast<size_t>(segment) * routed;
        const float *shared = p.means + (static_cast<size_t>(p.segments) + domain) * routed;
        const size_t row = static_cast<size_t>(t) * routed;
        float sum = 0.0f;
        for (uint32_t e = lane; e < routed; e += WARP) {
            const float step = own[e] - shared[e];
            sum += step * step;
            p.scores.dprobs[row + e] += factor * step;
        }
        return static_cast<double>(sum);
    });
}

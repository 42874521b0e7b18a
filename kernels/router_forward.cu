// The fused router: mask, score, top-k, normalise, shared experts and counts in one pass over the logits.
//
//   z   = logits + bias, kept experts only      p = softmax or sigmoid of z / temperature      lse = logsumexp z
//   S   = always_active, then the best others by p + selection_bias, ties to the lower index
//   w_i = p[S_i], or that divided by the L_p norm of them; then the shared experts, of weight 1 or a softmax of their own
//
// With smoothing in front, z is the smoothed logits: a block smooths its 32 tokens through shared memory and writes them,
// which the backward pass wants anyway, and its warps read them back from the cache.
//
// A warp takes a token, its logits spread over the lanes' registers, and meets no barrier. Slot i of the token is kept by
// lane i. A block walks over tokens and counts in shared memory, so that an expert gets one atomic add a block; integer
// sums do not depend on their order.
//
// Experts are ranked as f64 scores rank them (that is what the specification does, and where f32 underflows, saturates or
// rounds together it would choose others), but f64 is computed only where f32 cannot tell: f32 keys order the best
// slots + 1 experts, and unless each is ahead of the next by more than all roundings can add up to, the token is ranked
// again by f64 scores.
//
// Layout: every matrix row-major and dense, f32; rows need no alignment (E = 127 is usual). Reads 4 E bytes a token and
// the mask, writes 4 E_r + 8 k + 4: the floor. FLOPs: about 10 E, and k selections of 2 redux each.
// Limits: E_r <= 1024, k <= 32. Selections scan E_r / 32 registers, which shows from E_r = 512 on.
#include "common/router_row.cuh"
#include "common/smoothing_tile.cuh"

namespace emo {
namespace {

// The scores and the log-sum-exp of one token.
template <int N>
__device__ __forceinline__ float scores(const EmoRouterInputs &in, const RouterRow<N> &row, uint32_t lane, float (&p)[N]) {
    const float scale = static_cast<float>(1.0 / in.temperature);
    // The log-sum-exp belongs to the logits before the temperature.
    float sum = row.exponentials(in, lane, 1.0f, p);
    const double shift = static_cast<double>(row.shift_logit) + static_cast<double>(row.shift_bias);
    const float lse = static_cast<float>(shift + static_cast<double>(logf(sum)));
    if (in.sigmoid) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
            p[j] = row.may_use(j) ? 1.0f / (1.0f + expf(-(row.biased(in, j, lane) * scale))) : 0.0f;
        }
        return lse;
    }
    if (in.temperature != 1.0) sum = row.exponentials(in, lane, scale, p);
    const float factor = 1.0f / sum;
#pragma unroll
    for (int j = 0; j < N; ++j) p[j] *= factor;
    return lse;
}

// sigmoid(x), in the form whose exponential does not overflow.
__device__ __forceinline__ double sigmoid(double x) {
    const double e = exp(x >= 0.0 ? -x : x);
    return (x >= 0.0 ? 1.0 : e) / (1.0 + e);
}

// Ranks by f32: by the biased logit, or by the score with its correction.
template <int N>
__device__ __forceinline__ void quick_keys(const EmoRouterForward &p, const RouterRow<N> &row, const float (&score)[N],
                                           uint32_t taken, uint32_t lane, uint32_t (&keys)[N]) {
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        keys[j] = KEY_NONE;
        if (e < p.inputs.routed && !(taken >> j & 1u)) {
            const float value = p.selection_bias ? score[j] + p.selection_bias[e] : row.biased(p.inputs, j, lane);
            keys[j] = row.may_use(j) ? order_key(value) : KEY_FORBIDDEN;
        }
    }
}

// Ranks by f64 scores, as the specification computes them.
template <int N>
__device__ __forceinline__ void exact_keys(const EmoRouterForward &p, const RouterRow<N> &row, uint32_t taken,
                                           uint32_t lane, uint64_t (&keys)[N]) {
    const EmoRouterInputs &in = p.inputs;
    double z[N];
    double greatest = -INFINITY;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        z[j] = -INFINITY;
        if (row.may_use(j)) {
            const double bias = RouterRow<N>::bias(in, RouterRow<N>::expert(j, lane));
            z[j] = (static_cast<double>(row.z[j]) + bias) / in.temperature;
        }
        greatest = z[j] > greatest ? z[j] : greatest;
    }
    if (in.sigmoid) {
#pragma unroll
        for (int j = 0; j < N; ++j) z[j] = sigmoid(z[j]);
    } else {
        greatest = warp_max(greatest);
        double sum = 0.0;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            z[j] = exp(z[j] - greatest);
            sum += row.may_use(j) ? z[j] : 0.0;
        }
        sum = warp_sum(sum);
#pragma unroll
        for (int j = 0; j < N; ++j) z[j] /= sum;
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        keys[j] = KEY_NONE;
        if (e < in.routed && !(taken >> j & 1u)) {
            const double value = z[j] + (p.selection_bias ? static_cast<double>(p.selection_bias[e]) : 0.0);
            keys[j] = row.may_use(j) ? order_key(value) : KEY_FORBIDDEN;
        }
    }
}

// Whether the expert of `key` is certainly ahead of that of `next` where f64 scores decide.
__device__ __forceinline__ bool certain(const EmoRouterForward &p, uint32_t key, uint32_t next, float greatest) {
    // Forbidden experts follow by index; so does whatever stands alone.
    if (key <= KEY_FORBIDDEN || (next <= KEY_FORBIDDEN && key != KEY_NAN)) return true;
    const float value = key_value(key), gap = value - key_value(next);
    // Scores carry a relative error of some 1e-6 at most, and are at most 1.
    if (p.selection_bias) return gap > 8e-6f * (1.0f + fabsf(value));
    const float temperature = static_cast<float>(p.inputs.temperature);
    // Biased logits are rounded once. What they are apart must outlast the exponential: away from f64's underflow, and for a
    // sigmoid from its saturation.
    const float low = -600.0f * temperature + (p.inputs.sigmoid ? 0.0f : greatest);
    const bool resolved = value > low && (!p.inputs.sigmoid || value < 8.0f * temperature);
    return resolved && gap > 1e-6f * fabsf(value) + 4e-6f * temperature;
}

template <int N> __device__ __forceinline__ void token(const EmoRouterForward &p, uint32_t *counts, uint32_t t, uint32_t lane) {
    const EmoRouterInputs &in = p.inputs;
    const uint32_t routed_k = in.top_k - (in.experts - in.routed);
    RouterRow<N> row;
    float score[N];
    float lse = 0.0f;
    const bool any = row.load(in, p.status, t, lane);
    if (any) {
        lse = scores<N>(in, row, lane, score);
    } else {
#pragma unroll
        for (int j = 0; j < N; ++j) score[j] = 0.0f;
    }
    float *probs = p.probs + static_cast<size_t>(t) * in.routed;
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        if (e < in.routed) probs[e] = score[j];
    }
    if (lane == 0) p.lse[t] = lse;

    uint32_t taken = 0, slot_expert = 0;
    float weight = 0.0f;
    for (uint32_t i = 0; i < p.always; ++i) {
        const uint32_t e = p.always_active[i];
        const float value = row_value<N>(score, e, lane);
        if (e % WARP == lane) taken |= 1u << (e / WARP);
        if (lane == i) {
            slot_expert = e;
            weight = value;
        }
    }
    const uint32_t slots = routed_k - p.always;
    uint32_t slot_key = KEY_NONE, after = KEY_NONE;
    bool sure;
    {
        Selector<uint32_t, N> selector;
        quick_keys<N>(p, row, score, taken, lane, selector.keys);
        selector.scan(lane);
        for (uint32_t i = 0; i < slots; ++i) {
            uint32_t key;
            const uint32_t e = selector.take(lane, key);
            if (lane == p.always + i) {
                slot_expert = e;
                slot_key = key;
            }
        }
        after = warp_max_key(selector.best);
        const uint32_t below_me = __shfl_down_sync(ALL_LANES, slot_key, 1);
        const float greatest = any ? row.shift_logit + row.shift_bias : 0.0f;
        sure = lane < p.always || lane >= routed_k ||
               certain(p, slot_key, lane + 1 == routed_k ? after : below_me, greatest);
        // A score that is not a number makes all of a softmax so, which its logits do not show.
        sure = sure && (in.sigmoid || lse == lse);
    }
    if (!__all_sync(ALL_LANES, sure)) {
        Selector<uint64_t, N> selector;
        exact_keys<N>(p, row, taken, lane, selector.keys);
        selector.scan(lane);
        for (uint32_t i = 0; i < slots; ++i) {
            uint64_t key;
            const uint32_t e = selector.take(lane, key);
            if (lane == p.always + i) slot_expert = e;
        }
    }
    for (uint32_t i = p.always; i < routed_k; ++i) {
        const float value = row_value<N>(score, __shfl_sync(ALL_LANES, slot_expert, i), lane);
        if (lane == i) weight = value;
    }
    if (in.norm_power != 0.0) {
        const double norm = score_norm(lane < routed_k ? static_cast<double>(weight) : 0.0, in.norm_power);
        weight = norm == 0.0 ? 0.0f : static_cast<float>(static_cast<double>(weight) / norm);
    }

    // The shared experts: lane s computes the weight of the s-th, and finds its place among them.
    const uint32_t shared = in.experts - in.routed;
    uint32_t place = lane;
    float shared_weight = 1.0f;
    if (in.shared_softmax && shared != 0) {
        double z = -INFINITY;
        if (lane < shared) {
            const uint32_t e = in.routed + lane;
            const float *logits = in.logits + static_cast<size_t>(t) * in.experts;
            z = (static_cast<double>(logits[e]) + static_cast<double>(RouterRow<N>::bias(in, e))) / in.temperature;
        }
        const double greatest = warp_max(z);
        double exponential = 0.0;
        if (lane < shared && greatest != -INFINITY) exponential = exp(z - greatest);
        const double sum = warp_sum(exponential);
        const double share = greatest == -INFINITY ? 0.0 : exponential / sum;
        shared_weight = static_cast<float>(share);
        place = 0;
        for (uint32_t s = 0; s < shared; ++s) {
            const double other = __shfl_sync(ALL_LANES, share, s);
            place += other > share || (other == share && s < lane);
        }
    }
    const size_t first = static_cast<size_t>(t) * in.top_k;
    if (lane < routed_k) {
        p.weights[first + lane] = weight;
        p.indices[first + lane] = slot_expert;
        atomicAdd(&counts[slot_expert], 1u);
    }
    if (lane < shared) {
        // A NaN is before and after nothing: places would collide, so they keep their order.
        const size_t at = first + routed_k + (shared_weight == shared_weight ? place : lane);
        p.weights[at] = shared_weight;
        p.indices[at] = in.routed + lane;
        atomicAdd(&counts[in.routed + lane], 1u);
    }
}

static_assert(int(EMO_ROUTER_THREADS) == int(EMO_SMOOTHING_THREADS), "a block smooths the tokens that it routes");

template <int N> __device__ __forceinline__ void forward(const EmoRouterForward &p) {
    __shared__ uint32_t counts[EMO_ROUTER_MAX_EXPERTS + EMO_ROUTER_MAX_TOP_K];
    __shared__ SmoothingTile tile;
    for (uint32_t e = threadIdx.x; e < p.inputs.experts; e += EMO_ROUTER_THREADS) counts[e] = 0;
    __syncthreads();
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, tokens = p.inputs.tokens;
    for (uint32_t first = blockIdx.x * EMO_ROUTER_TOKENS; first < tokens; first += gridDim.x * EMO_ROUTER_TOKENS) {
        const uint32_t end = tokens - first < EMO_ROUTER_TOKENS ? tokens : first + EMO_ROUTER_TOKENS;
        if (p.smoothing.x) smooth_all(p.smoothing, first, end, tile);
        for (uint32_t t = first + warp; t < end; t += EMO_ROUTER_WARPS) token<N>(p, counts, t, lane);
    }
    __syncthreads();
    for (uint32_t e = threadIdx.x; e < p.inputs.experts; e += EMO_ROUTER_THREADS) {
        if (counts[e] != 0) atomicAdd(&p.counts[e], counts[e]);
    }
}

}  // namespace
}  // namespace emo

// One entry point a number of registers: the least that holds the routed experts. BLOCKS a multiprocessor bounds the
// registers such that nothing spills.
#define EMO_ROUTER_FORWARD(EXPERTS, BLOCKS)                                           \
    extern "C" __global__ void __launch_bounds__(EMO_ROUTER_THREADS, BLOCKS)          \
        emo_router_forward_##EXPERTS(const __grid_constant__ EmoRouterForward p) {    \
        emo::forward<EXPERTS / 32>(p);                                                \
    }
EMO_ROUTER_FORWARD(32, 4)
EMO_ROUTER_FORWARD(64, 4)
EMO_ROUTER_FORWARD(128, 3)
EMO_ROUTER_FORWARD(256, 2)
EMO_ROUTER_FORWARD(512, 1)
EMO_ROUTER_FORWARD(1024, 1)

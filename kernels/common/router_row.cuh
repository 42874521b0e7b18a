// One token's logits in the registers of a warp: lane `l` holds the routed experts `l, l + 32, ...`, N of them.
#pragma once
#include "../include/router.h"
#include "order.cuh"
#include "status.cuh"

namespace emo {

template <int N> struct RouterRow {
    float z[N];
    // Bit j: expert `j * 32 + lane` exists and may be used.
    uint32_t allowed;
    // The point that logits are shifted to before exponentials: the greatest biased logit, as its two parts. Shifting each
    // part by its own keeps the digits of a small difference of large logits. Unset where no expert is allowed.
    float shift_logit, shift_bias;

    static __device__ __forceinline__ uint32_t expert(int j, uint32_t lane) { return j * WARP + lane; }
    __device__ __forceinline__ bool may_use(int j) const { return allowed >> j & 1u; }
    static __device__ __forceinline__ float bias(const EmoRouterInputs &in, uint32_t expert) {
        return in.bias ? in.bias[expert] : 0.0f;
    }
    __device__ __forceinline__ float biased(const EmoRouterInputs &in, int j, uint32_t lane) const {
        return z[j] + bias(in, expert(j, lane));
    }

    // False where no expert is allowed. A token whose segment does not exist may use none.
    __device__ __forceinline__ bool load(const EmoRouterInputs &in, EmoStatus *status, uint32_t token, uint32_t lane) {
        const float *logits = in.logits + static_cast<size_t>(token) * in.experts;
        const uint8_t *keep = nullptr;
        bool exists = true;
        if (in.keep) {
            uint32_t row = token;
            if (in.of_token) {
                row = in.of_token[token];
                exists = below(status, in.segment_site, token, row, in.segments);
            }
            keep = in.keep + static_cast<size_t>(exists ? row : 0) * in.routed;
        }
        allowed = 0;
        uint32_t best = KEY_NONE, best_expert = 0;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const uint32_t e = expert(j, lane);
            z[j] = 0.0f;
            if (e < in.routed) {
                z[j] = logits[e];
                const float sum = z[j] + bias(in, e);
                // Finite parts never make -inf in f64, in which the specification adds them.
                const bool infinite = z[j] == -INFINITY || bias(in, e) == -INFINITY;
                if (exists && !(infinite && sum == -INFINITY) && (!keep || keep[e])) {
                    allowed |= 1u << j;
                    const uint32_t key = order_key(sum);
                    if (key > best) {
                        best = key;
                        best_expert = e;
                    }
                }
            }
        }
        const uint32_t greatest = __reduce_max_sync(ALL_LANES, best);
        if (greatest == KEY_NONE) return false;
        const uint32_t at = __reduce_min_sync(ALL_LANES, best == greatest ? best_expert : UINT32_MAX);
        shift_logit = logits[at];
        shift_bias = bias(in, at);
        return true;
    }

    // The biased logit above the shift: at most about 0.
    __device__ __forceinline__ float above(const EmoRouterInputs &in, int j, uint32_t lane) const {
        const float logit = z[j] - shift_logit;
        return in.bias ? logit + (in.bias[expert(j, lane)] - shift_bias) : logit;
    }

    // e[j] = exp((z + b - shift) * scale) for the allowed experts, 0 for the others; returns the sum over the warp.
    __device__ __forceinline__ float exponentials(const EmoRouterInputs &in, uint32_t lane, float scale,
                                                  float (&e)[N]) const {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            e[j] = may_use(j) ? expf(above(in, j, lane) * scale) : 0.0f;
            sum += e[j];
        }
        return warp_sum(sum);
    }
};

// The value of entry `index` of a row spread over the lanes, for every lane.
template <int N> __device__ __forceinline__ float row_value(const float (&row)[N], uint32_t index, uint32_t lane) {
    float own = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) own = j * WARP + lane == index ? row[j] : own;
    return __shfl_sync(ALL_LANES, own, index % WARP);
}

// x^p for x >= 0 and p > 0, within a few units of f64.
__device__ __forceinline__ double power(double x, double p) { return x > 0.0 ? exp(p * log(x)) : x; }

// The L_p norm over the lanes of scores >= 0.
__device__ __forceinline__ double score_norm(double score, double p) {
    if (p == 1.0) return warp_sum(score);
    const double sum = warp_sum(power(score, p));
    return power(sum, 1.0 / p);
}

}  // namespace emo

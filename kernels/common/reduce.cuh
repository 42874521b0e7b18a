// Sums and maxima over a warp and over a block, in a fixed order: the same bits in every run.
#pragma once
#include <stdint.h>

namespace emo {

constexpr int WARP = 32;
constexpr uint32_t ALL_LANES = 0xffffffffu;

template <class T> __device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int mask = WARP / 2; mask > 0; mask /= 2) x += __shfl_xor_sync(ALL_LANES, x, mask);
    return x;
}

template <class T> __device__ __forceinline__ T warp_max(T x) {
#pragma unroll
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        const T other = __shfl_xor_sync(ALL_LANES, x, mask);
        x = x > other ? x : other;
    }
    return x;
}

// Every thread gets the sum over the block. `scratch` holds one T a warp; the block may reuse it after the call.
template <class T, int THREADS> __device__ __forceinline__ T block_sum(T x, T *scratch) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    x = warp_sum(x);
    if constexpr (THREADS == WARP) return x;
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = x;
    __syncthreads();
    T sum = T(0);
#pragma unroll
    for (int warp = 0; warp < THREADS / WARP; ++warp) sum += scratch[warp];
    __syncthreads();
    return sum;
}

}  // namespace emo

// Exclusive sums over a warp and over a block.
#pragma once
#include "reduce.cuh"

namespace emo {

// The sum over the lanes before this one.
__device__ __forceinline__ uint32_t warp_exclusive(uint32_t x) {
    const uint32_t lane = threadIdx.x % WARP;
    uint32_t sum = x;
#pragma unroll
    for (int step = 1; step < WARP; step *= 2) {
        const uint32_t other = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= uint32_t(step)) sum += other;
    }
    return sum - x;
}

// The sum over the threads before this one; `total` gets the sum over the block. `scratch` holds one number a warp; the
// block may reuse it after the call.
template <int THREADS>
__device__ __forceinline__ uint32_t block_exclusive(uint32_t x, uint32_t *scratch, uint32_t &total) {
    static_assert(THREADS % WARP == 0 && THREADS <= 1024, "whole warps");
    constexpr int WARPS = THREADS / WARP;
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const uint32_t before = warp_exclusive(x);
    if (lane == WARP - 1) scratch[warp] = before + x;
    __syncthreads();
    const uint32_t other = lane < WARPS ? scratch[lane] : 0;
    const uint32_t warps_before = warp_exclusive(other);
    total = __shfl_sync(ALL_LANES, warps_before + other, WARPS - 1);
    const uint32_t sum = __shfl_sync(ALL_LANES, warps_before, warp) + before;
    __syncthreads();
    return sum;
}

}  // namespace emo

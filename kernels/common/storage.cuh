// The types tensors are stored in, and their way to f32 and back. Arithmetic is f32 everywhere.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

namespace emo {

using bf16 = __nv_bfloat16;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }

// Rounds to the nearest, ties to even.
template <class T> __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float x) { return __float2bfloat16_rn(x); }

}  // namespace emo

// One entry point for each storage type: NAME_f32 and NAME_bf16, both running BODY<T>(p).
#define EMO_KERNEL_EACH_STORAGE(NAME, THREADS, PARAMS, BODY)                                              \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME##_f32(const __grid_constant__ PARAMS p) {  \
        BODY<float>(p);                                                                                   \
    }                                                                                                     \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME##_bf16(const __grid_constant__ PARAMS p) { \
        BODY<emo::bf16>(p);                                                                               \
    }

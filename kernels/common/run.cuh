// Runs of a row's consecutive elements: 16 bytes an access, or the elements that are there one by one.
#pragma once
#include "vector.cuh"

namespace emo {

// Reads the first `valid` of COUNT elements, the others are 0. With VECTORS all COUNT are valid and 16-byte aligned.
template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void load_run(const T *from, float (&to)[COUNT], uint32_t valid) {
    if constexpr (VECTORS) {
        load(to, from);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) to[i] = i < valid ? widen(from[i]) : 0.0f;
    }
}

// Writes the first `valid` elements, rounded to T.
template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void store_run(T *to, const float (&from)[COUNT], uint32_t valid) {
    if constexpr (VECTORS) {
        store(to, from);
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (i < valid) to[i] = narrow<T>(from[i]);
    }
}

}  // namespace emo

// Runs of consecutive elements between memory and registers, widened to f32.
#pragma once
#include "storage.cuh"

namespace emo {

// Elements of T in 16 bytes.
template <class T> constexpr int RUN = 16 / sizeof(T);

// Reads the first `valid` of COUNT elements, the others are 0. With VECTORS all COUNT are valid and 16-byte aligned.
template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void load_run(const T *from, float (&to)[COUNT], uint32_t valid) {
    if constexpr (VECTORS) {
        static_assert(COUNT % RUN<T> == 0, "whole 16-byte pieces");
#pragma unroll
        for (int piece = 0; piece < COUNT; piece += RUN<T>) {
            __align__(16) T bits[RUN<T>];
            *reinterpret_cast<uint4 *>(bits) = *reinterpret_cast<const uint4 *>(from + piece);
#pragma unroll
            for (int i = 0; i < RUN<T>; ++i) to[piece + i] = widen(bits[i]);
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) to[i] = i < valid ? widen(from[i]) : 0.0f;
    }
}

// Writes the first `valid` elements, rounded to T.
template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void store_run(T *to, const float (&from)[COUNT], uint32_t valid) {
    if constexpr (VECTORS) {
        static_assert(COUNT % RUN<T> == 0, "whole 16-byte pieces");
#pragma unroll
        for (int piece = 0; piece < COUNT; piece += RUN<T>) {
            __align__(16) T bits[RUN<T>];
#pragma unroll
            for (int i = 0; i < RUN<T>; ++i) bits[i] = narrow<T>(from[piece + i]);
            *reinterpret_cast<uint4 *>(to + piece) = *reinterpret_cast<const uint4 *>(bits);
        }
    } else {
#pragma unroll
        for (int i = 0; i < COUNT; ++i)
            if (i < valid) to[i] = narrow<T>(from[i]);
    }
}

}  // namespace emo

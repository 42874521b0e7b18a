// Neighbouring elements read and written together, as f32: 16 bytes an instruction where the addresses allow it.
#pragma once
#include "storage.cuh"

namespace emo {

// Elements of T in 16 bytes.
template <class T> constexpr int WIDE = 16 / static_cast<int>(sizeof(T));

template <class T> struct alignas(16) Wide {
    T values[WIDE<T>];
};

// One element, or whole 16-byte pieces of an address that is a multiple of 16 bytes.
template <int N, class T> __device__ __forceinline__ void load(float (&out)[N], const T *from) {
    if constexpr (N == 1) {
        out[0] = widen(*from);
    } else {
        static_assert(N % WIDE<T> == 0, "whole pieces");
#pragma unroll
        for (int piece = 0; piece < N / WIDE<T>; ++piece) {
            const Wide<T> values = reinterpret_cast<const Wide<T> *>(from)[piece];
#pragma unroll
            for (int i = 0; i < WIDE<T>; ++i) out[piece * WIDE<T> + i] = widen(values.values[i]);
        }
    }
}

template <int N, class T> __device__ __forceinline__ void store(T *to, const float (&values)[N]) {
    if constexpr (N == 1) {
        *to = narrow<T>(values[0]);
    } else {
        static_assert(N % WIDE<T> == 0, "whole pieces");
#pragma unroll
        for (int piece = 0; piece < N / WIDE<T>; ++piece) {
            Wide<T> rounded;
#pragma unroll
            for (int i = 0; i < WIDE<T>; ++i) rounded.values[i] = narrow<T>(values[piece * WIDE<T> + i]);
            reinterpret_cast<Wide<T> *>(to)[piece] = rounded;
        }
    }
}

}  // namespace emo

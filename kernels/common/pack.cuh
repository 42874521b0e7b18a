// Rows moved 16 bytes a thread where width and addresses allow it, one element a thread where they do not.
#pragma once
#include "storage.cuh"

namespace emo {

// Elements of a 16-byte pack.
template <class T> constexpr int PACK = 16 / static_cast<int>(sizeof(T));

// Whether rows of `width` elements from these bases are whole packs.
template <class T, class... Bases> __device__ __forceinline__ bool packed(uint32_t width, const Bases *...bases) {
    const uintptr_t all = (reinterpret_cast<uintptr_t>(bases) | ... | (uintptr_t(width) * sizeof(T)));
    return all % 16 == 0;
}

// N neighbouring elements, widened. `from` is aligned to N elements, or to 16 bytes where they are more.
template <int N, class T> __device__ __forceinline__ void load(const T *from, float (&x)[N]) {
    if constexpr (N == 1) {
        x[0] = widen(*from);
    } else if constexpr (sizeof(T) == 4) {
        static_assert(N % 4 == 0, "whole packs");
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const float4 part = *reinterpret_cast<const float4 *>(from + i);
            x[i] = part.x, x[i + 1] = part.y, x[i + 2] = part.z, x[i + 3] = part.w;
        }
    } else {
        static_assert(N == 8 || N == 4, "a pack or half of one");
        uint32_t pairs[N / 2];
        if constexpr (N == 8) {
            const uint4 pack = *reinterpret_cast<const uint4 *>(from);
            pairs[0] = pack.x, pairs[1] = pack.y, pairs[2] = pack.z, pairs[3] = pack.w;
        } else {
            const uint2 pack = *reinterpret_cast<const uint2 *>(from);
            pairs[0] = pack.x, pairs[1] = pack.y;
        }
#pragma unroll
        for (int i = 0; i < N / 2; ++i) {
            // bf16 is the upper half of an f32.
            x[2 * i] = __uint_as_float(pairs[i] << 16);
            x[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
        }
    }
}

// The reverse of `load`: rounds to the nearest, ties to even.
template <int N, class T> __device__ __forceinline__ void store(T *to, const float (&x)[N]) {
    if constexpr (N == 1) {
        *to = narrow<T>(x[0]);
    } else if constexpr (sizeof(T) == 4) {
        static_assert(N % 4 == 0, "whole packs");
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            *reinterpret_cast<float4 *>(to + i) = make_float4(x[i], x[i + 1], x[i + 2], x[i + 3]);
        }
    } else {
        static_assert(N == 8 || N == 4, "a pack or half of one");
        uint32_t pairs[N / 2];
#pragma unroll
        for (int i = 0; i < N / 2; ++i) {
            const uint32_t low = __bfloat16_as_ushort(narrow<bf16>(x[2 * i]));
            const uint32_t high = __bfloat16_as_ushort(narrow<bf16>(x[2 * i + 1]));
            pairs[i] = low | (high << 16);
        }
        if constexpr (N == 8) {
            *reinterpret_cast<uint4 *>(to) = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
        } else {
            *reinterpret_cast<uint2 *>(to) = make_uint2(pairs[0], pairs[1]);
        }
    }
}

}  // namespace emo

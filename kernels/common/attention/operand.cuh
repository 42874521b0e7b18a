// Tensor-core operands of both storage types. A step of k is 32 bytes of a row: 16 elements of bf16, or 8 of f32, which are
// multiplied as three tf32 products of split operands, so that what is dropped is 2^-22 of a product.
#pragma once
#include "../ptx.cuh"
#include "../storage.cuh"

namespace emo::attention {

// A lane's parts of the operands of one mma, and the mma.
template <class T> struct Operand;

template <> struct Operand<bf16> {
    static constexpr int STEP = 16;
    struct A {
        uint32_t words[4];
    };
    struct B {
        uint32_t words[2];
    };
    static __device__ __forceinline__ A a(const uint32_t (&w)[4]) { return {{w[0], w[1], w[2], w[3]}}; }
    static __device__ __forceinline__ B b(uint32_t w0, uint32_t w1) { return {{w0, w1}}; }
    static __device__ __forceinline__ void multiply(float (&d)[4], const A &a, const B &b) {
        ptx::mma_bf16(d, a.words, b.words);
    }
};

template <> struct Operand<float> {
    static constexpr int STEP = 8;
    struct A {
        uint32_t high[4], low[4];
    };
    struct B {
        uint32_t high[2], low[2];
    };
    static __device__ __forceinline__ void split(uint32_t word, uint32_t &high, uint32_t &low) {
        const float x = __uint_as_float(word);
        high = ptx::to_tf32(x);
        low = ptx::to_tf32(x - __uint_as_float(high));
    }
    static __device__ __forceinline__ A a(const uint32_t (&w)[4]) {
        A a;
#pragma unroll
        for (int i = 0; i < 4; ++i) split(w[i], a.high[i], a.low[i]);
        return a;
    }
    static __device__ __forceinline__ B b(uint32_t w0, uint32_t w1) {
        B b;
        split(w0, b.high[0], b.low[0]);
        split(w1, b.high[1], b.low[1]);
        return b;
    }
    // The small products first.
    static __device__ __forceinline__ void multiply(float (&d)[4], const A &a, const B &b) {
        ptx::mma_tf32(d, a.low, b.high);
        ptx::mma_tf32(d, a.high, b.low);
        ptx::mma_tf32(d, a.high, b.high);
    }
};

}  // namespace emo::attention

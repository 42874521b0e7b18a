// Products of tiles on the tensor cores, in f32. A step of k is 32 bytes of a row: 16 elements of bf16, or 8 of f32, which are
// multiplied as three tf32 products of split operands, so that what is dropped is 2^-22 of a product.
#pragma once
#include "tile.cuh"

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

__device__ __forceinline__ int lane() { return threadIdx.x % 32; }

// x[m][n] += rows `row0 + 16 m ..` of `owned` times rows `8 n ..` of `streamed`, over the width of a head.
template <class T, int WIDTH, int MT, int NT>
__device__ __forceinline__ void rows_by_rows(float (&x)[MT][NT][4], const char *owned, int row0,
                                             const char *streamed) {
    using Op = Operand<T>;
    using Rows = Tile<T, 1, WIDTH>;
#pragma unroll 2
    for (int step = 0; step < WIDTH / Op::STEP; step += 2) {
        typename Op::A a[MT][2];
#pragma unroll
        for (int m = 0; m < MT; ++m) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                uint32_t words[4];
                ptx::load_matrix_x4(words, Rows::chunk(owned, row0 + 16 * m + lane() % 16,
                                                       2 * (step + half) + lane() / 16));
                a[m][half] = Op::a(words);
            }
        }
#pragma unroll
        for (int n = 0; n < NT; ++n) {
            uint32_t words[4];
            ptx::load_matrix_x4(words, Rows::chunk(streamed, 8 * n + lane() % 8, 2 * step + lane() / 8));
            const typename Op::B first = Op::b(words[0], words[1]), second = Op::b(words[2], words[3]);
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                Op::multiply(x[m][n], a[m][0], first);
                Op::multiply(x[m][n], a[m][1], second);
            }
        }
    }
}

// Scores in accumulator layout as the left operand of step `k`. An accumulator holds columns 2t and 2t + 1 where a tf32
// operand has k = t and t + 4: `columns` reads the streamed rows in the same order, so that the sum is the same.
template <class T, int NT> __device__ __forceinline__ typename Operand<T>::A left(const float (&x)[NT][4], int k) {
    uint32_t words[4];
    if constexpr (sizeof(T) == 2) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const float *pair = &x[2 * k + i / 2][i % 2 * 2];
            const __nv_bfloat162 both = __floats2bfloat162_rn(pair[0], pair[1]);
            words[i] = *reinterpret_cast<const uint32_t *>(&both);
        }
    } else {
        words[0] = __float_as_uint(x[k][0]);
        words[1] = __float_as_uint(x[k][2]);
        words[2] = __float_as_uint(x[k][1]);
        words[3] = __float_as_uint(x[k][3]);
    }
    return Operand<T>::a(words);
}

// Columns `16 pair ..` of the streamed rows of step `k`, as two right operands of 8 columns.
template <class T, int WIDTH>
__device__ __forceinline__ void columns(typename Operand<T>::B (&b)[2], const char *streamed, int k, int pair) {
    using Rows = Tile<T, 1, WIDTH>;
    uint32_t words[4];
    if constexpr (sizeof(T) == 2) {
        ptx::load_matrix_x4_transposed(words, Rows::chunk(streamed, 16 * k + lane() % 16, 2 * pair + lane() / 16));
    } else {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int row = 8 * k + 2 * (lane() % 4) + i % 2, column = 16 * pair + i / 2 * 8 + lane() / 4;
            words[i] =
                *reinterpret_cast<const uint32_t *>(Rows::chunk(streamed, row, column / 4) + column % 4 * 4);
        }
    }
    b[0] = Operand<T>::b(words[0], words[1]);
    b[1] = Operand<T>::b(words[2], words[3]);
}

// sum[m] += x[m] times the streamed rows.
template <class T, int WIDTH, int MT, int NT>
__device__ __forceinline__ void scores_by_rows(float (&sum)[MT][WIDTH / 8][4], const float (&x)[MT][NT][4],
                                               const char *streamed) {
    using Op = Operand<T>;
#pragma unroll
    for (int k = 0; k < NT * 8 / Op::STEP; ++k) {
        typename Op::A a[MT];
#pragma unroll
        for (int m = 0; m < MT; ++m) a[m] = left<T>(x[m], k);
#pragma unroll
        for (int pair = 0; pair < WIDTH / 16; ++pair) {
            typename Op::B b[2];
            columns<T, WIDTH>(b, streamed, k, pair);
#pragma unroll
            for (int m = 0; m < MT; ++m) {
                Op::multiply(sum[m][2 * pair], a[m], b[0]);
                Op::multiply(sum[m][2 * pair + 1], a[m], b[1]);
            }
        }
    }
}

}  // namespace emo::attention

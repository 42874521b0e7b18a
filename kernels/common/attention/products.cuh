// Products of whole tiles on the tensor cores, summed in registers.
#pragma once
#include "operand.cuh"
#include "tile.cuh"

namespace emo::attention {

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

// The second stage of every sum over tokens here: adds rows of partial sums to the result, in a fixed order.
//
//   out[c] += scale * sum_r partial[r, c]
//
// A block takes 32 columns; warp w adds the rows w, w + 8, ... in order, then the eight sums are added in order. Reads 8
// bytes a partial sum, which lie in the L2 cache since the first stage wrote them. Rows are few hundred at most.
#include "common/reduce.cuh"
#include "include/sum_rows.h"

extern "C" __global__ void __launch_bounds__(EMO_SUM_ROWS_THREADS) emo_sum_rows(const __grid_constant__ EmoSumRows p) {
    constexpr uint32_t WARPS = EMO_SUM_ROWS_THREADS / emo::WARP;
    __shared__ double sums[WARPS][emo::WARP];
    const uint32_t lane = threadIdx.x % emo::WARP, warp = threadIdx.x / emo::WARP;
    const uint32_t column = blockIdx.x * EMO_SUM_ROWS_COLUMNS + lane;
    double sum = 0.0;
    if (column < p.columns) {
        for (uint32_t row = warp; row < p.rows; row += WARPS) {
            sum += p.partial[static_cast<size_t>(row) * p.columns + column];
        }
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || column >= p.columns) return;
    sum = 0.0;
    for (uint32_t i = 0; i < WARPS; ++i) sum += sums[i][lane];
    if (p.out) {
        p.out[column] = static_cast<float>(static_cast<double>(p.out[column]) + p.scale * sum);
    } else {
        p.wide_out[column] += p.scale * sum;
    }
}

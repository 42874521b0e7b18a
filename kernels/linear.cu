// Sums over rows and over parts, for the gradients of dense layers: db += sum over rows of dy, in two stages, and dW from the
// partial products of a split reduction. The products themselves are kernels/grouped_gemm_*.cu with one group.
//
// Layout: x [rows, columns] in T, at any alignment; parts and sums f32. A thread owns a column of a part, then an element.
// The cut into parts depends on the shape alone, and each stage sums in ascending order: the same bits on every device.
// Bytes: rows * columns * sizeof(T), the floor, plus 8 bytes an element of the parts. FLOPs: rows * columns.
#include "common/storage.cuh"
#include "include/linear.h"

namespace emo {

template <class T> __device__ __forceinline__ void column_sums(const EmoColumnSums &p) {
    const uint32_t column = blockIdx.x * EMO_LINEAR_THREADS + threadIdx.x;
    if (column >= p.columns) return;
    const uint32_t begin = blockIdx.y * p.part_rows, end = begin + min(p.part_rows, p.rows - begin);
    const T *x = static_cast<const T *>(p.x) + column;
    float sum = 0.0f;
#pragma unroll 8
    for (uint32_t row = begin; row < end; ++row) sum += widen(x[size_t(row) * p.columns]);
    p.parts[size_t(blockIdx.y) * p.columns + column] = sum;
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_column_sums, EMO_LINEAR_THREADS, EmoColumnSums, emo::column_sums)

extern "C" __global__ void __launch_bounds__(EMO_LINEAR_THREADS) emo_sum_parts(const __grid_constant__ EmoSumParts p) {
    const uint64_t at = uint64_t(blockIdx.x) * EMO_LINEAR_THREADS + threadIdx.x;
    if (at >= p.len) return;
    float sum = 0.0f;
    for (uint32_t part = 0; part < p.count; ++part) sum += p.parts[part * p.len + at];
    p.out[at] += sum;
}

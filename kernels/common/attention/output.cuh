// From accumulators to rows in memory, and the names of the entry points.
#pragma once
#include "products.cuh"

namespace emo::attention {

// Two neighbouring elements of an output row; the second may lie outside it.
template <class T>
__device__ __forceinline__ void store_pair(T *row, uint32_t column, uint32_t width, float a, float b, bool wide) {
    if (wide) {
        if (column >= width) return;
        if constexpr (sizeof(T) == 2) {
            *reinterpret_cast<__nv_bfloat162 *>(row + column) = __floats2bfloat162_rn(a, b);
        } else {
            *reinterpret_cast<float2 *>(row + column) = make_float2(a, b);
        }
        return;
    }
    if (column < width) row[column] = narrow<T>(a);
    if (column + 1 < width) row[column + 1] = narrow<T>(b);
}

// A warp's accumulators, times a factor, as rows `first ..` of a matrix whose rows lie `stride` elements apart.
template <class T, int WIDTH, int MT>
__device__ __forceinline__ void store_rows(T *target, size_t stride, uint32_t first, uint32_t rows, uint32_t width,
                                           const float (&sum)[MT][WIDTH / 8][4], float factor, bool wide) {
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint32_t row = first + 16 * m + 8 * half + lane() / 4;
            if (row >= rows) continue;
#pragma unroll
            for (int n = 0; n < WIDTH / 8; ++n) {
                store_pair(target + row * stride, 8 * n + 2 * (lane() % 4), width, sum[m][n][2 * half] * factor,
                           sum[m][n][2 * half + 1] * factor, wide);
            }
        }
    }
}

}  // namespace emo::attention

// Types and names of the entry points.
#define EMO_ATTENTION_TYPE_F32 float
#define EMO_ATTENTION_TYPE_BF16 emo::bf16
#define EMO_ATTENTION_NAME_F32(pass, width) emo_attention_##pass##_##width##_f32
#define EMO_ATTENTION_NAME_BF16(pass, width) emo_attention_##pass##_##width##_bf16
#define EMO_ATTENTION_ENTRY(pass, storage, width) EMO_ATTENTION_NAME_##storage(pass, width)

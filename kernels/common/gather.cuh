// The gather that dispatch and embedding share: a warp a row.
#pragma once
#include "reduce.cuh"
#include "status.cuh"
#include "vector.cuh"

namespace emo {

// Writes `width` elements: those of `from`, or zeros where it is null.
template <class T>
__device__ __forceinline__ void copy_row(T *to, const T *from, uint32_t width, bool wide) {
    const uint32_t lane = threadIdx.x % WARP;
    if (wide) {
        const uint32_t count = width / WIDE<T>;
#pragma unroll 4
        for (uint32_t i = lane; i < count; i += WARP) {
            uint4 pack = make_uint4(0, 0, 0, 0);
            if (from != nullptr) pack = reinterpret_cast<const uint4 *>(from)[i];
            reinterpret_cast<uint4 *>(to)[i] = pack;
        }
    } else {
#pragma unroll 4
        for (uint32_t i = lane; i < width; i += WARP) to[i] = from == nullptr ? narrow<T>(0.0f) : from[i];
    }
}

// rows[r] = x[index[r]] for the row of this warp; an index that is not below `bound` is reported and gives zeros.
template <class T, int THREADS>
__device__ __forceinline__ void gather_row(const uint32_t *index, const T *x, T *rows, uint32_t count, uint32_t bound,
                                           uint32_t width, bool wide, uint32_t site, EmoStatus *status) {
    const uint64_t row = uint64_t(blockIdx.x) * (THREADS / WARP) + threadIdx.x / WARP;
    if (row >= count) return;
    const uint32_t from = index[row];
    const bool known = below(status, site, uint32_t(row), from, bound);
    copy_row(rows + row * width, known ? x + size_t(from) * width : nullptr, width, wide);
}

}  // namespace emo

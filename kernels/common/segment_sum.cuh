// Sums of rows over documents of any length, in f64 and a fixed order.
//
// A block adds a range of tokens: warp w takes the w-th of eight consecutive parts and adds them in order, lane l holding the
// columns l, l + 32, ...; then the eight sums are added in order. Documents longer than a block of tokens are cut where the
// blocks of the batch are cut: each block that a document crosses leaves one partial row. A block can be crossed by two
// documents at most, one that began before it and one that goes on after it, so it has two rows.
#pragma once
#include <stdint.h>

#include "reduce.cuh"

namespace emo {

constexpr int SUM_WARPS = 8;

// Tokens of a document; `count` 0 where there are none.
struct Range {
    uint32_t start, end;
    __device__ __forceinline__ uint32_t count() const { return end > start ? end - start : 0; }
};

// The partial row that block `block` leaves for a document that starts at `start`.
__device__ __forceinline__ uint32_t partial_row(uint32_t block, uint32_t tokens, uint32_t start) {
    return 2 * block + (start < static_cast<uint64_t>(block) * tokens ? 0 : 1);
}

// The last segment that starts at or before `token`.
__device__ __forceinline__ uint32_t segment_of(const uint32_t *offsets, uint32_t segments, uint32_t token) {
    uint32_t low = 0, high = segments;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (offsets[middle] <= token) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

// Adds the rows of `range` and calls `out(column, sum)` once for each column, from the first warp. `Row` is a functor that
// adds the row of a token to the lane's sums; the whole block calls its `prepare(range)` before.
template <int N, class Row, class Out>
__device__ __forceinline__ void sum_range(Range range, const Row &row, uint32_t columns, const Out &out) {
    __shared__ double part[SUM_WARPS][WARP];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t each = (range.count() + SUM_WARPS - 1) / SUM_WARPS;
    double sum[N];
#pragma unroll
    for (int j = 0; j < N; ++j) sum[j] = 0.0;
    row.prepare(range);
    for (uint32_t i = 0; i < each; ++i) {
        const uint32_t token = warp * each + i;
        if (token < range.count()) row(range.start + token, lane, sum);
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
        part[warp][lane] = sum[j];
        __syncthreads();
        if (warp == 0) {
            double total = part[0][lane];
            for (int i = 1; i < SUM_WARPS; ++i) total += part[i][lane];
            const uint32_t column = j * WARP + lane;
            if (column < columns) out(column, total);
        }
        __syncthreads();
    }
}

// First stage: the partial rows of this block of tokens, `pitch` elements apart.
template <int N, class Row>
__device__ __forceinline__ void sum_crossing(const uint32_t *offsets, uint32_t segments, uint32_t tokens, uint32_t block,
                                             uint32_t columns, uint32_t pitch, double *partial, const Row &row) {
    const uint32_t first = blockIdx.x * block;
    const uint32_t end = tokens - first < block ? tokens : first + block;
    const uint32_t head = segment_of(offsets, segments, first), tail = segment_of(offsets, segments, end - 1);
    for (int side = 0; side < 2; ++side) {
        const uint32_t segment = side == 0 ? head : tail;
        const uint32_t start = offsets[segment], stop = offsets[segment + 1];
        // Side 0: what began before this block. Side 1: what begins here and goes on after it.
        const bool crosses = side == 0 ? start < first : start >= first && stop > end;
        if (!crosses) continue;
        const Range range{start < first ? first : start, stop < end ? stop : end};
        double *target = partial + static_cast<size_t>(partial_row(blockIdx.x, block, start)) * pitch;
        sum_range<N>(range, row, columns, [=](uint32_t column, double sum) { target[column] = sum; });
    }
}

// Second stage: the sums of one document. `out` is called from the first warp, or for a document of several blocks from all.
template <int N, class Row, class Out>
__device__ __forceinline__ void sum_document(Range range, uint32_t block, uint32_t columns, uint32_t pitch,
                                             const double *partial, const Row &row, const Out &out) {
    const uint32_t first = range.start / block, last = range.count() == 0 ? first : (range.end - 1) / block;
    if (first == last) {
        sum_range<N>(range, row, columns, out);
        return;
    }
    for (uint32_t column = threadIdx.x; column < columns; column += blockDim.x) {
        double sum = 0.0;
        for (uint32_t b = first; b <= last; ++b) {
            sum += partial[static_cast<size_t>(partial_row(b, block, range.start)) * pitch + column];
        }
        out(column, sum);
    }
}

}  // namespace emo

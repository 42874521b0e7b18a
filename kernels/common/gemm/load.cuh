// Panels of an operand on their way from global to shared memory. Elements outside the matrix become zeros.
#pragma once
#include "../ptx.cuh"
#include "../status.cuh"
#include "tile.cuh"

namespace emo::gemm {

constexpr uint32_t NO_ROW = 0xffffffffu;

// The row of `operand` that row r stands for; NO_ROW where the gather points outside.
__device__ __forceinline__ uint32_t source_row(const EmoRows &operand, uint32_t r, EmoStatus *status) {
    if (operand.gather == nullptr) return r;
    const uint32_t source = operand.gather[r];
    return below(status, operand.site, r, source, operand.sources) ? source : NO_ROW;
}

// Copies `valid` elements and fills the chunk with zeros. With VECTORS, chunks are whole or absent, and 16-byte aligned.
template <class T, bool VECTORS>
__device__ __forceinline__ void copy_chunk(unsigned char *shared, const T *from, uint32_t valid) {
    if constexpr (VECTORS) {
        ptx::copy_async<16>(shared, from, valid == 0 ? 0 : 16);
    } else {
        constexpr uint32_t COUNT = 16 / sizeof(T);
        __align__(16) T chunk[COUNT];
#pragma unroll
        for (uint32_t i = 0; i < COUNT; ++i) chunk[i] = i < valid ? from[i] : narrow<T>(0.0f);
        *reinterpret_cast<uint4 *>(shared) = *reinterpret_cast<const uint4 *>(chunk);
    }
}

// Elements of the chunk at `column` that a line of `width` elements has.
template <int VECTOR> __device__ __forceinline__ uint32_t present(uint32_t column, uint32_t width) {
    return column >= width ? 0 : min(width - column, uint32_t(VECTOR));
}

// A panel of LINES matrix rows by K columns, the columns being the reduction.
template <class Tile, int LINES, bool VECTORS> struct PanelAlongReduction {
    using T = typename Tile::T;
    static constexpr Along ALONG = Along::REDUCTION;
    static constexpr int CHUNKS = Tile::K / Tile::VECTOR, LINES_A_PASS = Tile::THREADS / CHUNKS;
    static constexpr int PASSES = LINES / LINES_A_PASS;
    static_assert(LINES % LINES_A_PASS == 0, "whole passes");

    const T *matrix;
    uint32_t width;
    uint32_t row[PASSES];

    // Line i is the matrix row row_of(i), which may be NO_ROW.
    template <class RowOf> __device__ __forceinline__ void begin(const T *matrix_, uint32_t width_, RowOf row_of) {
        matrix = matrix_;
        width = width_;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) row[pass] = row_of(threadIdx.x / CHUNKS + pass * LINES_A_PASS);
    }

    __device__ __forceinline__ void copy(unsigned char *panel, uint32_t k) {
        const uint32_t chunk = threadIdx.x % CHUNKS, column = k + chunk * Tile::VECTOR;
        const uint32_t valid = present<Tile::VECTOR>(column, width);
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t line = threadIdx.x / CHUNKS + pass * LINES_A_PASS;
            const bool any = row[pass] != NO_ROW && valid != 0;
            const T *from = any ? matrix + size_t(row[pass]) * width + column : matrix;
            copy_chunk<T, VECTORS>(panel + chunk_offset<T, Tile::K, ALONG>(line, chunk), from, any ? valid : 0);
        }
    }
};

// A panel of K matrix rows, the rows being the reduction, by LENGTH columns from `column` on.
template <class Tile, int LENGTH, bool VECTORS, bool GATHERED> struct PanelAlongExtent {
    using T = typename Tile::T;
    static constexpr Along ALONG = Along::EXTENT;
    static constexpr int CHUNKS = LENGTH / Tile::VECTOR, LINES_A_PASS = Tile::THREADS / CHUNKS;
    static constexpr int PASSES = Tile::K / LINES_A_PASS;
    static_assert(Tile::K % LINES_A_PASS == 0, "whole passes");

    const T *matrix;
    uint32_t width, column, end;
    uint32_t row[GATHERED ? PASSES : 1];

    // Rows before `end`; `operand` is looked at only when GATHERED, from row k on.
    __device__ __forceinline__ void begin(const T *matrix_, uint32_t width_, uint32_t column_, uint32_t k, uint32_t end_,
                                          const EmoRows &operand, EmoStatus *status) {
        matrix = matrix_;
        width = width_;
        column = column_ + threadIdx.x % CHUNKS * Tile::VECTOR;
        end = end_;
        look_up(k, operand, status);
    }

    // Fetches the row numbers of the next panel while this one is on its way.
    __device__ __forceinline__ void look_up(uint32_t k, const EmoRows &operand, EmoStatus *status) {
        if constexpr (GATHERED) {
#pragma unroll
            for (int pass = 0; pass < PASSES; ++pass) {
                const uint32_t r = k + threadIdx.x / CHUNKS + pass * LINES_A_PASS;
                row[pass] = r < end ? source_row(operand, r, status) : NO_ROW;
            }
        }
    }

    __device__ __forceinline__ void copy(unsigned char *panel, uint32_t k) {
        const uint32_t chunk = threadIdx.x % CHUNKS, valid = present<Tile::VECTOR>(column, width);
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t line = threadIdx.x / CHUNKS + pass * LINES_A_PASS;
            uint32_t source = k + line < end ? k + line : NO_ROW;
            if constexpr (GATHERED) source = row[pass];
            const bool any = source != NO_ROW && valid != 0;
            const T *from = any ? matrix + size_t(source) * width + column : matrix;
            copy_chunk<T, VECTORS>(panel + chunk_offset<T, LENGTH, ALONG>(line, chunk), from, any ? valid : 0);
        }
    }
};

}  // namespace emo::gemm

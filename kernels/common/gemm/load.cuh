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
// Nothing is read where `valid` is 0, so `from` may then point anywhere.
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

    const T *line_at[PASSES];  // where this thread's chunk of each line begins
    uint32_t width, lines;     // elements a line, and which passes have one

    // Line i is the matrix row row_of(i), which may be NO_ROW.
    template <class RowOf> __device__ __forceinline__ void begin(const T *matrix, uint32_t width_, RowOf row_of) {
        width = width_;
        lines = 0;
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t row = row_of(threadIdx.x / CHUNKS + pass * LINES_A_PASS);
            lines |= uint32_t(row != NO_ROW) << pass;
            line_at[pass] = matrix + size_t(row != NO_ROW ? row : 0) * width + threadIdx.x % CHUNKS * Tile::VECTOR;
        }
    }

    __device__ __forceinline__ void copy(unsigned char *panel, uint32_t k) {
        const uint32_t chunk = threadIdx.x % CHUNKS, valid = present<Tile::VECTOR>(k + chunk * Tile::VECTOR, width);
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t line = threadIdx.x / CHUNKS + pass * LINES_A_PASS;
            const uint32_t at = chunk_offset<T, Tile::K, ALONG>(line, chunk);
            copy_chunk<T, VECTORS>(panel + at, line_at[pass] + k, lines >> pass & 1 ? valid : 0);
        }
    }
};

// A panel of K matrix rows, the rows being the reduction, by LENGTH columns. GATHERED, the rows are those of an EmoRows.
template <class Tile, int LENGTH, bool VECTORS, bool GATHERED> struct PanelAlongExtent {
    using T = typename Tile::T;
    static constexpr Along ALONG = Along::EXTENT;
    static constexpr int CHUNKS = LENGTH / Tile::VECTOR, LINES_A_PASS = Tile::THREADS / CHUNKS;
    static constexpr int PASSES = Tile::K / LINES_A_PASS;
    static_assert(Tile::K % LINES_A_PASS == 0, "whole passes");

    const T *columns;                        // this thread's chunk of row 0
    uint32_t width, valid, end;              // elements a row, of the chunk, rows
    uint32_t row[GATHERED ? PASSES : 1];     // the next panel's rows

    // From column `column` on, of the rows below `end`.
    __device__ __forceinline__ void begin(const T *matrix, uint32_t width_, uint32_t column, uint32_t end_) {
        column += threadIdx.x % CHUNKS * Tile::VECTOR;
        columns = matrix + column;
        width = width_;
        valid = present<Tile::VECTOR>(column, width);
        end = end_;
    }

    // Fetches the row numbers of the panel that begins at k, while the one before it is on its way.
    __device__ __forceinline__ void look_up(const EmoRows &rows, uint32_t k, EmoStatus *status) {
        static_assert(GATHERED, "without a gather, rows are what they are");
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t r = k + threadIdx.x / CHUNKS + pass * LINES_A_PASS;
            row[pass] = r < end ? source_row(rows, r, status) : NO_ROW;
        }
    }

    __device__ __forceinline__ void copy(unsigned char *panel, uint32_t k) {
#pragma unroll
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t line = threadIdx.x / CHUNKS + pass * LINES_A_PASS;
            const uint32_t at = chunk_offset<T, LENGTH, ALONG>(line, threadIdx.x % CHUNKS);
            if constexpr (GATHERED) {
                const bool any = row[pass] != NO_ROW;
                copy_chunk<T, VECTORS>(panel + at, columns + size_t(any ? row[pass] : 0) * width, any ? valid : 0);
            } else {
                copy_chunk<T, VECTORS>(panel + at, columns + size_t(k + line) * width, k + line < end ? valid : 0);
            }
        }
    }
};

}  // namespace emo::gemm

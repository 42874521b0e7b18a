// Tiles of rows in shared memory: one head of consecutive tokens, 16-byte chunks swizzled so that eight neighbouring rows
// never meet in a bank. Rows past the end and columns past the head are zeros.
#pragma once
#include "../../include/attention.h"
#include "../ptx.cuh"
#include "../storage.cuh"

namespace emo::attention {

template <class T, int ROWS, int WIDTH> struct Tile {
    static constexpr int ROW_BYTES = EMO_ATTENTION_ROW_BYTES(int(sizeof(T)), WIDTH);
    static constexpr int BYTES = ROWS * ROW_BYTES;
    static constexpr int CHUNKS = WIDTH * int(sizeof(T)) / 16;

    static __device__ __forceinline__ char *chunk(char *tile, int row, int chunk) {
        return tile + row * ROW_BYTES + ((chunk ^ (row & 7)) << 4);
    }
    static __device__ __forceinline__ const char *chunk(const char *tile, int row, int chunk) {
        return tile + row * ROW_BYTES + ((chunk ^ (row & 7)) << 4);
    }

    // The block's THREADS start to fill the tile from `rows >= 1` rows of `width` elements, `stride` elements apart.
    // With `wide` the copies are asynchronous and belong to the next committed group; otherwise they are done.
    template <int THREADS>
    static __device__ __forceinline__ void fill(char *tile, const T *first, size_t stride, uint32_t rows,
                                                uint32_t width, bool wide) {
        constexpr int EACH = 16 / int(sizeof(T)), PER_PASS = THREADS / CHUNKS, PASSES = ROWS / PER_PASS;
        static_assert(THREADS % CHUNKS == 0 && ROWS % PER_PASS == 0, "every thread copies equally many chunks");
        const int column = threadIdx.x % CHUNKS, row0 = threadIdx.x / CHUNKS;
        const uint32_t element = column * EACH;
        if (wide) {
            const uint32_t inside = element < width ? 16 : 0;
#pragma unroll
            for (int pass = 0; pass < PASSES; ++pass) {
                const uint32_t row = row0 + pass * PER_PASS;
                const uint32_t valid = row < rows ? inside : 0;
                const T *source = valid != 0 ? first + row * stride + element : first;
                ptx::copy_async<16>(chunk(tile, row, column), source, valid);
            }
            return;
        }
#pragma unroll 1
        for (int pass = 0; pass < PASSES; ++pass) {
            const uint32_t row = row0 + pass * PER_PASS;
            const T *source = first + row * stride + element;
            union {
                T values[EACH];
                uint4 whole;
            };
#pragma unroll
            for (int i = 0; i < EACH; ++i) {
                values[i] = row < rows && element + i < width ? source[i] : narrow<T>(0.0f);
            }
            *reinterpret_cast<uint4 *>(chunk(tile, row, column)) = whole;
        }
    }
};

}  // namespace emo::attention

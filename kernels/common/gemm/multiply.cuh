// A warp's share of a tile product on tensor cores: fragments from shared memory, f32 accumulators.
#pragma once
#include "../ptx.cuh"
#include "tile.cuh"

namespace emo::gemm {

template <class Tile, Along A, Along B> struct Multiply {
    using T = typename Tile::T;
    static constexpr int MMA_M = Tile::MMA_M, MMA_N = Tile::MMA_N;
    struct Fragments {
        uint32_t a[MMA_M][4], b[MMA_N][2];
    };

    float sum[MMA_M][MMA_N][4];

    __device__ __forceinline__ static uint32_t lane() { return threadIdx.x % 32; }
    __device__ __forceinline__ static uint32_t warp_m() { return threadIdx.x / 32 / Tile::WARPS_N * Tile::WARP_M; }
    __device__ __forceinline__ static uint32_t warp_n() { return threadIdx.x / 32 % Tile::WARPS_N * Tile::WARP_N; }

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int i = 0; i < MMA_M; ++i)
#pragma unroll
            for (int j = 0; j < MMA_N; ++j)
#pragma unroll
                for (int part = 0; part < 4; ++part) sum[i][j][part] = 0.0f;
    }

    // A 32-bit element of a panel whose lines run across the reduction.
    template <int LENGTH> __device__ __forceinline__ static uint32_t word(const unsigned char *panel, uint32_t line, uint32_t at) {
        const uint32_t chunk = chunk_offset<T, LENGTH, Along::EXTENT>(line, at / 4);
        return *reinterpret_cast<const uint32_t *>(panel + chunk + at % 4 * 4);
    }

    // The four 8 x 16-byte pieces of a 16-row fragment of a: rows 0..8 and 8..16 of the first chunk, then of the second.
    __device__ __forceinline__ static void load_a(uint32_t (&a)[MMA_M][4], const unsigned char *panel, uint32_t step) {
#pragma unroll
        for (int i = 0; i < MMA_M; ++i) {
            const uint32_t m = warp_m() + 16 * i;
            if constexpr (A == Along::REDUCTION) {
                const uint32_t at = chunk_offset<T, Tile::K, A>(m + lane() % 16, 2 * step + lane() / 16);
                ptx::load_matrix_x4(a[i], panel + at);
            } else if constexpr (sizeof(T) == 2) {
                const uint32_t k = 16 * step + lane() % 8 + lane() / 16 * 8;
                const uint32_t at = chunk_offset<T, Tile::M, A>(k, m / 8 + lane() / 8 % 2);
                ptx::load_matrix_x4_transposed(a[i], panel + at);
            } else {
                const uint32_t k = 8 * step + lane() % 4;
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    a[i][part] = word<Tile::M>(panel, k + part / 2 * 4, m + lane() / 4 + part % 2 * 8);
            }
        }
    }

    // Two fragments of b at once: eight columns of the first and of the second chunk, then the next eight columns.
    __device__ __forceinline__ static void load_b(uint32_t (&b)[MMA_N][2], const unsigned char *panel, uint32_t step) {
#pragma unroll
        for (int j = 0; j < MMA_N; j += 2) {
            const uint32_t n = warp_n() + 8 * j;
            uint32_t pair[4];
            if constexpr (B == Along::REDUCTION) {
                const uint32_t line = n + lane() % 8 + lane() / 16 * 8;
                const uint32_t at = chunk_offset<T, Tile::K, B>(line, 2 * step + lane() / 8 % 2);
                ptx::load_matrix_x4(pair, panel + at);
            } else if constexpr (sizeof(T) == 2) {
                const uint32_t at = chunk_offset<T, Tile::N, B>(16 * step + lane() % 16, n / 8 + lane() / 16);
                ptx::load_matrix_x4_transposed(pair, panel + at);
            } else {
                const uint32_t k = 8 * step + lane() % 4;
#pragma unroll
                for (int part = 0; part < 4; ++part)
                    pair[part] = word<Tile::N>(panel, k + part % 2 * 4, n + lane() / 4 + part / 2 * 8);
            }
#pragma unroll
            for (int part = 0; part < 4; ++part) b[j + part / 2][part % 2] = pair[part];
        }
    }

    // x = high + low + less than the last bit of x, both parts tf32: high is x rounded to 10 bits of mantissa (the carry of the
    // addition may pass into the exponent), what remains has 12 bits, and low drops one. Of a NaN, low at least is one.
    __device__ __forceinline__ static void split(uint32_t x, uint32_t &high, uint32_t &low) {
        constexpr uint32_t HALF = 1u << 12, KEPT = ~((1u << 13) - 1);
        high = (x + HALF) & KEPT;
        low = __float_as_uint(__uint_as_float(x) - __uint_as_float(high)) & KEPT;
    }

    __device__ __forceinline__ void multiply(const Fragments &f) {
        if constexpr (sizeof(T) == 2) {
#pragma unroll
            for (int i = 0; i < MMA_M; ++i)
#pragma unroll
                for (int j = 0; j < MMA_N; ++j) ptx::mma_bf16(sum[i][j], f.a[i], f.b[j]);
        } else {
            uint32_t b_high[MMA_N][2], b_low[MMA_N][2];
#pragma unroll
            for (int j = 0; j < MMA_N; ++j)
#pragma unroll
                for (int part = 0; part < 2; ++part) split(f.b[j][part], b_high[j][part], b_low[j][part]);
#pragma unroll
            for (int i = 0; i < MMA_M; ++i) {
                uint32_t a_high[4], a_low[4];
#pragma unroll
                for (int part = 0; part < 4; ++part) split(f.a[i][part], a_high[part], a_low[part]);
                // The small products first; low times low is below the error of the split.
#pragma unroll
                for (int j = 0; j < MMA_N; ++j) ptx::mma_tf32(sum[i][j], a_low, b_high[j]);
#pragma unroll
                for (int j = 0; j < MMA_N; ++j) ptx::mma_tf32(sum[i][j], a_high, b_low[j]);
#pragma unroll
                for (int j = 0; j < MMA_N; ++j) ptx::mma_tf32(sum[i][j], a_high, b_high[j]);
            }
        }
    }

    // Adds the product of one stage's panels; the next step's fragments are loaded while this step's are multiplied.
    __device__ __forceinline__ void stage(const unsigned char *a, const unsigned char *b) {
        Fragments fragments[2];
        load_a(fragments[0].a, a, 0);
        load_b(fragments[0].b, b, 0);
#pragma unroll
        for (int step = 0; step < Tile::STEPS; ++step) {
            if (step + 1 < Tile::STEPS) {
                load_a(fragments[(step + 1) % 2].a, a, step + 1);
                load_b(fragments[(step + 1) % 2].b, b, step + 1);
            }
            multiply(fragments[step % 2]);
        }
    }
};

}  // namespace emo::gemm

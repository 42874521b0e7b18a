// The loop of a persistent block: tile after tile, each through a pipeline of asynchronous copies.
#pragma once
#include "../ptx.cuh"
#include "multiply.cuh"
#include "schedule.cuh"

namespace emo::gemm {

// Hands the warp's outputs to `f(line, column, run)` as runs of VECTOR consecutive columns, by way of shared memory: eight
// or fewer lanes share a line, so that global accesses are 16 bytes wide and whole sectors. With PARTS = 2, the second half
// of the warp's columns belongs to the same units as the first: run[0] and run[1] lie WARP_N / 2 columns apart, and
// `column` counts units. `line` and `column` are relative to the tile. Every lane calls `f` equally often.
template <class Tile, int PARTS, class Product, class F>
__device__ __forceinline__ void each_run(const Product &product, unsigned char *shared, F f) {
    constexpr int WIDTH = Tile::WARP_N / PARTS, LANES = WIDTH / Tile::VECTOR, LINES = WARP / LANES;
    static_assert(LANES >= 1 && LINES <= 16, "a piece of 16 lines feeds every lane");
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    float *stage = reinterpret_cast<float *>(shared + (Tile::STAGES - 1) * Tile::STAGE_BYTES) + warp * 16 * Tile::WARP_N;
    // Eight columns of four lines fill the banks once: writes meet no conflict, reads one.
    const auto at = [&](uint32_t line, uint32_t column) { return stage + line * Tile::WARP_N + (column ^ line % 4 * 8); };
#pragma unroll
    for (int i = 0; i < Tile::MMA_M; ++i) {
        __syncwarp();
#pragma unroll
        for (int j = 0; j < Tile::MMA_N; ++j)
#pragma unroll
            for (int half = 0; half < 2; ++half)
                *reinterpret_cast<float2 *>(at(lane / 4 + 8 * half, 8 * j + lane % 4 * 2)) =
                    make_float2(product.sum[i][j][2 * half], product.sum[i][j][2 * half + 1]);
        __syncwarp();
#pragma unroll 1
        for (uint32_t line = lane / LANES; line < 16; line += LINES) {
            const uint32_t column = lane % LANES * Tile::VECTOR;
            float run[PARTS][Tile::VECTOR];
#pragma unroll
            for (int part = 0; part < PARTS; ++part)
#pragma unroll
                for (int piece = 0; piece < Tile::VECTOR; piece += 4)
                    *reinterpret_cast<float4 *>(&run[part][piece]) =
                        *reinterpret_cast<const float4 *>(at(line, part * WIDTH + column + piece));
            f(Product::warp_m() + 16 * i + line, Product::warp_n() / PARTS + column, run);
        }
    }
}

// Problem: `Tile`, `Product`, `next()` gives work, `begin(work)` aims the copies at it, `copy(stage, k)` starts those of
// the K reduction elements from k on (k ascends), `finish(work, product, shared)` stores.
template <class Problem> __device__ __forceinline__ void run(Problem problem) {
    using Tile = typename Problem::Tile;
    extern __shared__ __align__(128) unsigned char shared[];
    typename Problem::Product product;

    Work work = problem.next();
    const auto fill = [&] {
        problem.begin(work);
#pragma unroll
        for (uint32_t slot = 0; slot < Tile::STAGES - 1; ++slot) {
            const uint32_t k = work.k + slot * Tile::K;
            if (k < work.k_end) problem.copy(shared + slot * Tile::STAGE_BYTES, k);
            ptx::copy_commit();
        }
    };
    if (work.any) fill();
    while (work.any) {
        product.clear();
        uint32_t slot = 0;
        for (uint32_t k = work.k; k < work.k_end; k += Tile::K) {
            ptx::copy_wait<Tile::STAGES - 2>();
            __syncthreads();  // this stage has landed for all, and all have read the stage before it
            const uint32_t free_slot = slot == 0 ? Tile::STAGES - 1 : slot - 1;
            const uint32_t ahead = k + (Tile::STAGES - 1) * Tile::K;
            if (ahead < work.k_end) problem.copy(shared + free_slot * Tile::STAGE_BYTES, ahead);
            ptx::copy_commit();
            const unsigned char *stage = shared + slot * Tile::STAGE_BYTES;
            product.stage(stage, stage + Tile::A_BYTES);
            slot = slot + 1 == Tile::STAGES ? 0 : slot + 1;
        }
        __syncthreads();
        // The next tile's first copies are on their way while this tile is stored.
        const Work done = work;
        work = problem.next();
        if (work.any) fill();
        problem.finish(done, product, shared);
    }
}

}  // namespace emo::gemm

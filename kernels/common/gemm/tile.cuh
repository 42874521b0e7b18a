// The shape of a block's work in a matrix product, and how a tile lies in shared memory.
#pragma once
#include "../../include/grouped_gemm.h"
#include "../storage.cuh"

namespace emo::gemm {

// An operand's consecutive elements run along the reduction or across it (along the operand's own extent, m or n).
enum class Along { REDUCTION, EXTENT };

// A block computes M x N outputs, a warp WARP_M x WARP_N of them, in steps of K reduction elements.
template <class T_, int M_, int N_, int WARPS_M_, int WARPS_N_, int STAGES_> struct Tile {
    using T = T_;
    static constexpr int M = M_, N = N_, K = EMO_GEMM_DEPTH, STAGES = STAGES_;
    static constexpr int WARPS_N = WARPS_N_, WARP_M = M / WARPS_M_, WARP_N = N / WARPS_N_;
    static constexpr int THREADS = 32 * WARPS_M_ * WARPS_N_;
    static constexpr int VECTOR = 16 / sizeof(T);        // elements of a 16-byte chunk
    static constexpr int STEPS = K * sizeof(T) / 32;     // mma steps a stage: two chunks deep each
    static constexpr int MMA_M = WARP_M / 16, MMA_N = WARP_N / 8;
    static constexpr int A_BYTES = M * K * sizeof(T), STAGE_BYTES = (M + N) * K * sizeof(T);
    static constexpr int SHARED_BYTES = STAGES * STAGE_BYTES;
    static_assert(THREADS == EMO_GEMM_THREADS && MMA_N % 2 == 0, "fragments of b are loaded in pairs");
    // The epilogue stages 16 rows a warp in the last stage, which the next tile's first copies leave alone.
    static_assert(THREADS / 32 * 16 * WARP_N * 4 <= STAGE_BYTES, "room to stage");
};

// bf16: the 64 x 64 warp tile asks shared memory for 192 of the 256 cycles that its products take.
// f32: three products of split operands, whose halves want the registers that a smaller tile frees.
template <class T> struct Tiles;
template <> struct Tiles<bf16> {
    static constexpr int STAGES = EMO_GEMM_STAGES_BF16;
    using Large = Tile<bf16, EMO_GEMM_LARGE_M, EMO_GEMM_N_BF16, 2, EMO_GEMM_WARPS_N_LARGE, STAGES>;
    using Small = Tile<bf16, EMO_GEMM_SMALL_M, EMO_GEMM_N_BF16, 1, EMO_GEMM_WARPS_N_SMALL_BF16, STAGES>;
};
template <> struct Tiles<float> {
    static constexpr int STAGES = EMO_GEMM_STAGES_F32;
    using Large = Tile<float, EMO_GEMM_LARGE_M, EMO_GEMM_N_F32, 2, EMO_GEMM_WARPS_N_LARGE, STAGES>;
    using Small = Tile<float, EMO_GEMM_SMALL_M, EMO_GEMM_N_F32, 2, EMO_GEMM_WARPS_N_SMALL_F32, STAGES>;
};

// Byte offset of 16-byte chunk `chunk` of line `line` in a panel whose lines hold LENGTH elements. Chunks are permuted within
// a line so that the eight lines that one ldmatrix reads, or the four lines by eight columns of a 32-bit fragment, fall
// into different banks.
template <class T, int LENGTH, Along ALONG> __device__ __forceinline__ uint32_t chunk_offset(uint32_t line, uint32_t chunk) {
    constexpr uint32_t CHUNKS = LENGTH * sizeof(T) / 16;
    static_assert(CHUNKS == 4 || CHUNKS >= 8, "half a row of banks, or whole ones");
    uint32_t swizzle;
    if constexpr (CHUNKS == 4) {
        swizzle = (line >> 1) & 3;
    } else if constexpr (ALONG == Along::EXTENT && sizeof(T) == 4) {
        swizzle = (line & 3) << 1;
    } else {
        swizzle = line & 7;
    }
    return (line * CHUNKS + (chunk ^ swizzle)) * 16;
}

}  // namespace emo::gemm

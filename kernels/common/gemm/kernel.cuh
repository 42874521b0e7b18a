// What the kernels of the family share: the first operand's rows, and the entry points of a problem.
#pragma once
#include "load.cuh"
#include "persistent.cuh"

namespace emo::gemm {

// The rows of group work.group from work.m on.
template <class Panel>
__device__ __forceinline__ void begin_rows(Panel &panel, const Work &work, const EmoRows &rows, uint32_t width, EmoStatus *status) {
    panel.begin(static_cast<const typename Panel::T *>(rows.data), width, [&](uint32_t line) {
        const uint32_t row = work.m + line;
        return row < work.m_end ? source_row(rows, row, status) : NO_ROW;
    });
}

}  // namespace emo::gemm

// NAME_<tile>_<storage>: large and small tiles by 16-byte copies; "scalar" for widths or addresses that these cannot read.
#define EMO_GEMM_KERNEL(NAME, TILE, BLOCKS, PROBLEM, PARAMS, STORAGE, T, VECTORS)      \
    extern "C" __global__ void __launch_bounds__(EMO_GEMM_THREADS, BLOCKS)             \
        NAME##_##STORAGE(const __grid_constant__ PARAMS p) {                           \
        emo::gemm::run(PROBLEM<typename emo::gemm::Tiles<T>::TILE, VECTORS>(p));       \
    }
#define EMO_GEMM_KERNELS_OF(NAME, PROBLEM, PARAMS, STORAGE, T)                                             \
    EMO_GEMM_KERNEL(NAME##_large, Large, EMO_GEMM_BLOCKS_LARGE, PROBLEM, PARAMS, STORAGE, T, true)         \
    EMO_GEMM_KERNEL(NAME##_small, Small, EMO_GEMM_BLOCKS_SMALL, PROBLEM, PARAMS, STORAGE, T, true)         \
    EMO_GEMM_KERNEL(NAME##_scalar, Small, EMO_GEMM_BLOCKS_LARGE, PROBLEM, PARAMS, STORAGE, T, false)
#define EMO_GEMM_KERNELS(NAME, PROBLEM, PARAMS)              \
    EMO_GEMM_KERNELS_OF(NAME, PROBLEM, PARAMS, f32, float)   \
    EMO_GEMM_KERNELS_OF(NAME, PROBLEM, PARAMS, bf16, emo::bf16)

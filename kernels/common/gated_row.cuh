// The gate and the other factor of consecutive units, in either layout of a pre-activation row.
#pragma once
#include "activation.cuh"
#include "run.cuh"

namespace emo {

// Units `unit..unit + valid` of a row of `width` units.
template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void load_gated(const T *row, uint32_t layout, uint32_t width, uint32_t unit, float (&gate)[COUNT],
                                           float (&up)[COUNT], uint32_t valid) {
    if (layout == EMO_GATE_CONCATENATED) {
        load_run<VECTORS>(row + unit, gate, valid);
        load_run<VECTORS>(row + width + unit, up, valid);
        return;
    }
    float both[2 * COUNT];
    load_run<VECTORS>(row + 2 * size_t(unit), both, 2 * valid);
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        gate[i] = both[2 * i];
        up[i] = both[2 * i + 1];
    }
}

template <bool VECTORS, class T, int COUNT>
__device__ __forceinline__ void store_gated(T *row, uint32_t layout, uint32_t width, uint32_t unit, const float (&gate)[COUNT],
                                            const float (&up)[COUNT], uint32_t valid) {
    if (layout == EMO_GATE_CONCATENATED) {
        store_run<VECTORS>(row + unit, gate, valid);
        store_run<VECTORS>(row + width + unit, up, valid);
        return;
    }
    float both[2 * COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        both[2 * i] = gate[i];
        both[2 * i + 1] = up[i];
    }
    store_run<VECTORS>(row + 2 * size_t(unit), both, 2 * valid);
}

}  // namespace emo

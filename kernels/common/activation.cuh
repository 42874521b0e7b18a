// Activations f and f', and rows that hold a gate. Formulas: src/reference/activation.rs.
#pragma once
#include "../include/activation.h"
#include "storage.cuh"

namespace emo {

struct Activated {
    float value, slope;
};

__device__ __forceinline__ Activated activate_silu(float x) {
    const float s = 1.0f / (1.0f + expf(-x));
    return {x * s, s * (1.0f + x * (1.0f - s))};
}

__device__ __forceinline__ Activated activate_gelu(float x) {
    constexpr float SQRT_HALF = 0.70710678f, DENSITY_AT_0 = 0.39894228f;
    const float below = 0.5f * erfcf(-SQRT_HALF * x);  // the normal distribution's share below x
    return {x * below, below + x * (DENSITY_AT_0 * expf(-0.5f * x * x))};
}

__device__ __forceinline__ Activated activate_gelu_tanh(float x) {
    constexpr float SCALE = 0.79788456f, CUBIC = 0.044715f;
    const float t = tanhf(SCALE * (x + CUBIC * x * x * x));
    const float slope = SCALE * (1.0f + 3.0f * CUBIC * x * x);
    return {0.5f * x * (1.0f + t), 0.5f * (1.0f + t) + 0.5f * x * ((1.0f - t) * (1.0f + t)) * slope};
}

// f(x) and f'(x); the branch is the same for every thread of a launch.
__device__ __forceinline__ Activated activate(uint32_t activation, float x) {
    switch (activation) {
        case EMO_ACTIVATION_SILU: return activate_silu(x);
        case EMO_ACTIVATION_GELU: return activate_gelu(x);
        case EMO_ACTIVATION_GELU_TANH: return activate_gelu_tanh(x);
        default: break;
    }
    const float positive = x < 0.0f ? 0.0f : x;  // NaN stays NaN
    if (activation == EMO_ACTIVATION_RELU) return {positive, x > 0.0f ? 1.0f : 0.0f};
    return {positive * positive, 2.0f * positive};
}

// Column of a pre-activation row that holds the gate (`up` false) or the other factor of a unit.
__device__ __forceinline__ uint32_t gate_column(uint32_t layout, uint32_t width, uint32_t unit, bool up) {
    return layout == EMO_GATE_INTERLEAVED ? 2 * unit + up : (up ? width + unit : unit);
}

}  // namespace emo

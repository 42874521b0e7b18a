// Smoothing of a tile in shared memory: token rows with the halo that the taps reach into. What a kernel that reads
// smoothed logits needs before it can start.
#pragma once
#include <stdint.h>

#include "../include/smoothing.h"

namespace emo {

constexpr int MAX_TAPS = EMO_SMOOTHING_MAX_WIDTH;
constexpr int MAX_HALO = MAX_TAPS - 1;
// No segment: a token outside the batch.
constexpr uint32_t NO_SEGMENT = UINT32_MAX;

// The taps of one channel, in registers.
struct Taps {
    float k[MAX_TAPS];
    uint32_t width;

    __device__ __forceinline__ Taps(const EmoSmoothing &p, uint32_t channel) : width(p.width) {
        const float *row = p.taps + (p.depthwise ? static_cast<size_t>(channel) * p.width : 0);
#pragma unroll
        for (int j = 0; j < MAX_TAPS; ++j) k[j] = j < p.width ? row[j] : 0.0f;
    }

    // Bit j: tap j of the token of segment `own` falls inside its document. `segment[j]` is that of the token it looks at.
    __device__ __forceinline__ uint32_t reach(const uint32_t *segment, uint32_t own) const {
        uint32_t inside = 0;
#pragma unroll
        for (int j = 0; j < MAX_TAPS; ++j) {
            if (j < width && own != NO_SEGMENT && segment[j] == own) inside |= 1u << j;
        }
        return inside;
    }

    // 1 over what the sum is divided by; 0 where that is 0.
    __device__ __forceinline__ float factor(uint32_t inside, bool renormalise) const {
        if (!renormalise) return 1.0f;
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < MAX_TAPS; ++j) sum += inside >> j & 1u ? k[j] : 0.0f;
        return sum == 0.0f ? 0.0f : 1.0f / sum;
    }

    // The sum over the taps inside; `x[j * pitch]` is what tap j looks at.
    __device__ __forceinline__ float apply(const float *x, uint32_t pitch, uint32_t inside) const {
        float sum = 0.0f;
#pragma unroll
        for (int j = 0; j < MAX_TAPS; ++j) {
            if (inside >> j & 1u) sum += k[j] * x[j * pitch];
        }
        return sum;
    }
};

// The segments of the tokens `first ..`, of which the ones outside the batch have none. `first` may be negative.
__device__ __forceinline__ void load_segments(const EmoSmoothing &p, int64_t first, uint32_t rows, uint32_t *segment) {
    for (uint32_t i = threadIdx.x; i < rows; i += blockDim.x) {
        const int64_t token = first + i;
        segment[i] = token >= 0 && token < p.tokens ? p.of_token[token] : NO_SEGMENT;
    }
}

// Rows `first ..` of `source`, 32 channels from `channel`; zeros outside.
__device__ __forceinline__ void load_rows(const EmoSmoothing &p, const float *source, int64_t first, uint32_t rows,
                                          uint32_t channel, float (*tile)[EMO_SMOOTHING_CHANNELS]) {
    for (uint32_t i = threadIdx.x; i < rows * EMO_SMOOTHING_CHANNELS; i += blockDim.x) {
        const uint32_t row = i / EMO_SMOOTHING_CHANNELS, c = i % EMO_SMOOTHING_CHANNELS;
        const int64_t token = first + row;
        const bool inside = token >= 0 && token < p.tokens && channel + c < p.channels;
        tile[row][c] = inside ? source[token * p.channels + channel + c] : 0.0f;
    }
}

}  // namespace emo

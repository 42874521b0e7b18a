// Smoothing of a tile in shared memory: token rows with the halo that the taps reach into. A kernel that reads smoothed
// logits smooths its own tokens first and reads them back from the cache.
#pragma once
#include <stdint.h>

#include "../include/smoothing.h"
#include "reduce.cuh"

namespace emo {

constexpr int MAX_TAPS = EMO_SMOOTHING_MAX_WIDTH;
constexpr int SMOOTHING_ROWS = EMO_SMOOTHING_THREADS / WARP;
static_assert(EMO_SMOOTHING_CHANNELS == WARP, "a warp is a row of a tile");
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

struct SmoothingTile {
    float x[EMO_SMOOTHING_TOKENS + MAX_HALO][EMO_SMOOTHING_CHANNELS];
    uint32_t segment[EMO_SMOOTHING_TOKENS + MAX_HALO];
};

// y of the tokens `first .. end`, EMO_SMOOTHING_TOKENS at most, and 32 channels from `channel`. The whole block calls it, and
// may read that part of y and use the tile again when it returns.
__device__ __forceinline__ void smooth(const EmoSmoothing &p, uint32_t first, uint32_t end, uint32_t channel,
                                       SmoothingTile &tile) {
    const uint32_t lane = threadIdx.x % WARP, c = channel + lane, rows = end - first;
    const uint32_t halo = p.width - 1, before = halo - p.ahead;
    const int64_t origin = static_cast<int64_t>(first) - before;
    load_segments(p, origin, rows + halo, tile.segment);
    load_rows(p, p.x, origin, rows + halo, channel, tile.x);
    __syncthreads();
    if (c < p.channels) {
        const Taps taps(p, c);
        for (uint32_t row = threadIdx.x / WARP; row < rows; row += SMOOTHING_ROWS) {
            const uint32_t inside = taps.reach(&tile.segment[row], tile.segment[row + before]);
            const float sum = taps.apply(&tile.x[row][lane], EMO_SMOOTHING_CHANNELS, inside);
            p.y[static_cast<size_t>(first + row) * p.channels + c] = sum * taps.factor(inside, p.renormalise);
        }
    }
    __syncthreads();
}

// y of any number of tokens, all channels.
__device__ __forceinline__ void smooth_all(const EmoSmoothing &p, uint32_t first, uint32_t end, SmoothingTile &tile) {
    for (uint32_t start = first; start < end; start += EMO_SMOOTHING_TOKENS) {
        const uint32_t stop = end - start < EMO_SMOOTHING_TOKENS ? end : start + EMO_SMOOTHING_TOKENS;
        for (uint32_t channel = 0; channel < p.channels; channel += EMO_SMOOTHING_CHANNELS) {
            smooth(p, start, stop, channel, tile);
        }
    }
}

}  // namespace emo

// Which keys a query sees: those of its own segment up to itself. Index buffers are checked where they are read.
#pragma once
#include "../../include/attention.h"
#include "../reduce.cuh"
#include "../status.cuh"
#include "products.cuh"

namespace emo::attention {

// Where the segment of `token < tokens` begins, at most `token`. A token with a bad segment is alone.
__device__ __forceinline__ uint32_t segment_start(const EmoAttentionShape &shape, uint32_t token) {
    const uint32_t segment = shape.of_token[token];
    if (!below(shape.status, EMO_ATTENTION_OF_TOKEN, token, segment, shape.segments)) return token;
    const uint32_t start = shape.offsets[segment], end = shape.offsets[segment + 1];
    if (!below(shape.status, EMO_ATTENTION_OFFSETS, segment, start, token + 1)) return token;
    if (!below(shape.status, EMO_ATTENTION_OFFSETS, segment + 1, end, shape.tokens + 1)) return token;
    return below(shape.status, EMO_ATTENTION_END, token, token, end) ? start : token;
}

// Where the segment of `token < tokens` ends: behind it, and at most at `tokens`.
__device__ __forceinline__ uint32_t segment_end(const EmoAttentionShape &shape, uint32_t token) {
    const uint32_t segment = shape.of_token[token];
    const uint32_t end = segment < shape.segments ? shape.offsets[segment + 1] : 0;
    return min(max(end, token + 1), shape.tokens);
}

// Fills `starts` for the tokens from `first` on; a token behind the last is alone. A barrier must follow.
template <int OWNED>
__device__ __forceinline__ void find_starts(uint32_t *starts, const EmoAttentionShape &shape, uint32_t first) {
    for (uint32_t row = threadIdx.x; row < OWNED; row += blockDim.x) {
        const uint32_t token = first + row;
        starts[row] = token < shape.tokens ? segment_start(shape, token) : token;
    }
}

// The least (greatest) of ROWS words in shared memory, in every lane of the calling warp.
template <int ROWS> __device__ __forceinline__ uint32_t least(const uint32_t *words) {
    uint32_t result = words[threadIdx.x % WARP % ROWS];
#pragma unroll
    for (int row = WARP; row < ROWS; row += WARP) result = min(result, words[row + threadIdx.x % WARP]);
    return __reduce_min_sync(ALL_LANES, result);
}
template <int ROWS> __device__ __forceinline__ uint32_t greatest(const uint32_t *words) {
    uint32_t result = words[threadIdx.x % WARP % ROWS];
#pragma unroll
    for (int row = WARP; row < ROWS; row += WARP) result = max(result, words[row + threadIdx.x % WARP]);
    return __reduce_max_sync(ALL_LANES, result);
}

// Scores of unseen keys become -inf. `starts` belong to the warp's queries, the first of which is `first`.
template <int MT, int NT>
__device__ __forceinline__ void mask(float (&s)[MT][NT][4], const uint32_t *starts, uint32_t first, uint32_t key0) {
#pragma unroll
    for (int m = 0; m < MT; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const uint32_t row = 16 * m + 8 * half + lane() / 4;
            const uint32_t start = starts[row], seen = first + row - start;
#pragma unroll
            for (int n = 0; n < NT; ++n) {
#pragma unroll
                for (int i = 0; i < 2; ++i) {
                    const uint32_t key = key0 + 8 * n + 2 * (lane() % 4) + i;
                    // Keys before the start wrap around.
                    if (key - start > seen) s[m][n][2 * half + i] = -INFINITY;
                }
            }
        }
    }
}

// 2^x, within 2 units in the last place; results below the smallest normal number are 0. Source: PTX ISA 9.0, 9.7.3.21.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
constexpr float LOG2_E = 1.4426950408889634f;

}  // namespace emo::attention

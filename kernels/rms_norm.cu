// RMSNorm over the `width` elements of each vector; a row holds `groups` neighbouring vectors, rows start `stride` apart.
//
// forward    rstd = 1 / sqrt(mean(x^2) + eps), y = w x rstd
// backward   dx = rstd (w dy - x rstd^2 mean(w dy x)), dw += sum dy x rstd
//
// Layout: x, y, dy, dx in T at any alignment (16-byte accesses where `wide` says so), the rest f32.
// One warp a vector; a vector's second reading comes from L1 up to about 8 KiB.
// Bytes, n = vectors * width: forward 2 n sizeof(T) + 4 vectors, the floor. Backward 5 n sizeof(T) against a floor of 3:
// the weight's gradient is a pass of its own over x and dy, so that its sum has one fixed order for any grid.
// FLOPs: forward 4 n, backward 9 n.
// The weight's gradient has two stages: a partial sum for each of at most 128 parts of the vectors, then their sum in
// ascending order.
#include "common/reduce.cuh"
#include "common/vector.cuh"
#include "include/rms_norm.h"

namespace emo {

constexpr int WARPS = EMO_RMS_NORM_THREADS / WARP;
static_assert(WARPS == EMO_RMS_NORM_VECTORS && EMO_RMS_NORM_COLUMNS == WARP, "a warp a vector, a lane a column");

// The vector of this warp, and where it starts.
__device__ __forceinline__ uint32_t own_vector() {
    return blockIdx.x * EMO_RMS_NORM_VECTORS + threadIdx.x / WARP;
}

template <class P> __device__ __forceinline__ size_t start(const P &p, uint32_t vector) {
    return static_cast<size_t>(vector / p.groups) * p.stride + static_cast<size_t>(vector % p.groups) * p.width;
}

template <int N, class T>
__device__ __forceinline__ void normalise(const EmoRmsNormForward &p, uint32_t vector, const T *x, T *y) {
    const uint32_t lane = threadIdx.x % WARP;
    float squares = 0.0f;
    for (uint32_t at = lane * N; at < p.width; at += WARP * N) {
        float values[N];
        load(values, x + at);
#pragma unroll
        for (int i = 0; i < N; ++i) squares = fmaf(values[i], values[i], squares);
    }
    const float mean = warp_sum(squares) / static_cast<float>(p.width);
    const float rstd = 1.0f / sqrtf(mean + p.eps);
    if (lane == 0) p.rstd[vector] = rstd;
    for (uint32_t at = lane * N; at < p.width; at += WARP * N) {
        float values[N], weight[N];
        load(values, x + at);
        load(weight, p.weight + at);
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = values[i] * rstd * weight[i];
        store(y + at, values);
    }
}

template <class T> __device__ __forceinline__ void forward(const EmoRmsNormForward &p) {
    const uint32_t vector = own_vector();
    if (vector >= p.vectors) return;
    const T *x = static_cast<const T *>(p.x) + start(p, vector);
    T *y = static_cast<T *>(p.y) + start(p, vector);
    if (p.wide) {
        normalise<WIDE<T>>(p, vector, x, y);
    } else {
        normalise<1>(p, vector, x, y);
    }
}

template <int N, class T>
__device__ __forceinline__ void gradient(const EmoRmsNormBackward &p, float rstd, const T *x, const T *dy, T *dx) {
    const uint32_t lane = threadIdx.x % WARP;
    float along = 0.0f;
    for (uint32_t at = lane * N; at < p.width; at += WARP * N) {
        float a[N], b[N], weight[N];
        load(a, x + at);
        load(b, dy + at);
        load(weight, p.weight + at);
#pragma unroll
        for (int i = 0; i < N; ++i) along = fmaf(b[i] * weight[i], a[i], along);
    }
    const float pull = -(warp_sum(along) / static_cast<float>(p.width)) * rstd * rstd * rstd;
    for (uint32_t at = lane * N; at < p.width; at += WARP * N) {
        float a[N], b[N], weight[N], before[N];
        load(a, x + at);
        load(b, dy + at);
        load(weight, p.weight + at);
        if (p.accumulate) load(before, dx + at);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float value = fmaf(rstd * b[i], weight[i], pull * a[i]);
            a[i] = p.accumulate ? value + before[i] : value;
        }
        store(dx + at, a);
    }
}

template <class T> __device__ __forceinline__ void backward(const EmoRmsNormBackward &p) {
    const uint32_t vector = own_vector();
    if (vector >= p.vectors) return;
    const size_t at = start(p, vector);
    const T *x = static_cast<const T *>(p.x) + at, *dy = static_cast<const T *>(p.dy) + at;
    T *dx = static_cast<T *>(p.dx) + at;
    if (p.wide) {
        gradient<WIDE<T>>(p, p.rstd[vector], x, dy, dx);
    } else {
        gradient<1>(p, p.rstd[vector], x, dy, dx);
    }
}

// Block (x, y): columns 32 x .. 32 x + 31 of part y; each warp takes every eighth vector of the part.
template <class T> __device__ __forceinline__ void weight_parts(const EmoRmsNormBackward &p) {
    __shared__ float sums[WARPS][WARP];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t column = blockIdx.x * WARP + lane;
    const uint32_t first = blockIdx.y * p.part, end = min(p.vectors, first + p.part);
    float sum = 0.0f;
    if (column < p.width) {
        for (uint32_t vector = first + warp; vector < end; vector += WARPS) {
            const size_t at = start(p, vector) + column;
            const float x = widen(static_cast<const T *>(p.x)[at]), dy = widen(static_cast<const T *>(p.dy)[at]);
            sum = fmaf(dy * p.rstd[vector], x, sum);
        }
    }
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp != 0 || column >= p.width) return;
    sum = 0.0f;
#pragma unroll
    for (int i = 0; i < WARPS; ++i) sum += sums[i][lane];
    p.parts[static_cast<size_t>(blockIdx.y) * p.width + column] = sum;
}

__device__ __forceinline__ void weight_sum(const EmoRmsNormBackward &p) {
    const uint32_t column = blockIdx.x * EMO_RMS_NORM_THREADS + threadIdx.x;
    if (column >= p.width) return;
    const uint32_t parts = (p.vectors + p.part - 1) / p.part;
    float sum = 0.0f;
    for (uint32_t part = 0; part < parts; ++part) sum += p.parts[static_cast<size_t>(part) * p.width + column];
    p.dweight[column] += sum;
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_rms_norm_forward, EMO_RMS_NORM_THREADS, EmoRmsNormForward, emo::forward)
EMO_KERNEL_EACH_STORAGE(emo_rms_norm_backward, EMO_RMS_NORM_THREADS, EmoRmsNormBackward, emo::backward)
EMO_KERNEL_EACH_STORAGE(emo_rms_norm_weight_parts, EMO_RMS_NORM_THREADS, EmoRmsNormBackward, emo::weight_parts)

extern "C" __global__ void __launch_bounds__(EMO_RMS_NORM_THREADS)
    emo_rms_norm_weight_sum(const __grid_constant__ EmoRmsNormBackward p) {
    emo::weight_sum(p);
}

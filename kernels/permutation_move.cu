// Rows on their way to the experts and back: dispatch, combine and their backward passes.
//
//   dispatch            rows[r] = x[token[r]]
//   dispatch, backward  dx[t] = sum_j drows[inverse[t, j]]
//   combine             y[t] (+)= sum_j weights[t, j] rows[inverse[t, j]]
//   combine, backward   drows[inverse[t, j]] = weights[t, j] dy[t],  dweights[t, j] = dy[t] . rows[inverse[t, j]]
//
// Row-major, any width; 16-byte accesses where width and bases allow them, else single elements, still coalesced. Sums
// over a token's slots are fused multiply-adds in ascending order of slots, one owner an element: the CPU's bits in f32.
// Bytes of R rows of T tokens, width d, b bytes an element (the floors): dispatch b d (T + R) + 4 R, combine and
// dispatch's backward b d (R + T) + 8 R, combine's backward b d (2 R + T) + 12 R. Moved are the floors where the rows
// that several slots read (x, dy) stay in L2; combine's backward passes over dy twice and over 8 R bytes of marks.
// FLOPs: 2 R d for combine, 3 R d for its backward.
// Limits: a kernel reads a token's indices once per 512 bytes of width.
#include "common/gather.cuh"
#include "include/permutation.h"

namespace emo {

constexpr uint32_t MOVE_WARPS = EMO_MOVE_THREADS / WARP;

template <class T> __device__ __forceinline__ void dispatch(const EmoDispatch &p) {
    gather_row<T, EMO_MOVE_THREADS>(p.token, static_cast<const T *>(p.x), static_cast<T *>(p.rows), p.rows_len,
                                    p.tokens, p.width, p.wide, EMO_SITE_DISPATCH_TOKEN, p.status);
}

// The row (or slot, or token) of this warp.
__device__ __forceinline__ uint64_t warp_row() {
    return uint64_t(blockIdx.x) * MOVE_WARPS + threadIdx.x / WARP;
}

// One token; blockIdx.y takes every gridDim.y-th group of 32 packs. N elements a pack.
template <class T, int N> __device__ __forceinline__ void sum_token(const EmoGatherSum &p, uint64_t token) {
    const uint32_t lane = threadIdx.x % WARP, slots = p.tokens * p.top_k;
    const uint32_t *const inverse = p.inverse + token * p.top_k;
    const T *const rows = static_cast<const T *>(p.rows);
    for (uint32_t pack = blockIdx.y * WARP + lane; pack < p.width / N; pack += gridDim.y * WARP) {
        float sum[N] = {};
#pragma unroll 4
        for (uint32_t j = 0; j < p.top_k; ++j) {
            // No branch, so that the rows of several slots are in flight; a bad index takes row 0 with weight 0.
            const uint32_t named = inverse[j], row = named < slots ? named : 0;
            const float own = p.weights == nullptr ? 1.0f : p.weights[token * p.top_k + j];
            const float weight = named < slots ? own : 0.0f;
            float x[N];
            load(x, rows + size_t(row) * p.width + size_t(pack) * N);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] = __fmaf_rn(weight, x[i], sum[i]);
        }
        T *const y = static_cast<T *>(p.y) + token * p.width + size_t(pack) * N;
        if (p.accumulate) {
            float own[N];
            load(own, y);
#pragma unroll
            for (int i = 0; i < N; ++i) sum[i] = own[i] + sum[i];
        }
        store(y, sum);
    }
}

template <class T> __device__ __forceinline__ void gather_sum(const EmoGatherSum &p) {
    const uint64_t token = warp_row();
    if (token >= p.tokens) return;
    if (blockIdx.y == 0) {
        for (uint32_t j = threadIdx.x % WARP; j < p.top_k; j += WARP) {
            const uint32_t slot = uint32_t(token) * p.top_k + j;
            below(p.status, p.site, slot, p.inverse[slot], p.tokens * p.top_k);
        }
    }
    if (p.wide) {
        sum_token<T, WIDE<T>>(p, token);
    } else {
        sum_token<T, 1>(p, token);
    }
}

// Row r takes its gradient from the slot that named it.
template <class T, int N> __device__ __forceinline__ void scale_row(const EmoCombineBackward &p, uint64_t row) {
    const uint32_t mark = reinterpret_cast<const uint32_t *>(p.dweights)[row];
    const uint32_t slot = mark - 1;
    const float weight = mark == 0 ? 0.0f : p.weights[slot];
    const T *const dy = static_cast<const T *>(p.dy) + size_t(mark == 0 ? 0 : slot / p.top_k) * p.width;
    T *const drow = static_cast<T *>(p.drows) + row * p.width;
    for (uint32_t pack = blockIdx.y * WARP + threadIdx.x % WARP; pack < p.width / N; pack += gridDim.y * WARP) {
        float x[N];
        load(x, dy + size_t(pack) * N);
#pragma unroll
        for (int i = 0; i < N; ++i) x[i] = weight * x[i];
        store(drow + size_t(pack) * N, x);
    }
    if (mark == 0 && blockIdx.y == 0) below(p.status, EMO_SITE_COMBINE_BACKWARD_UNNAMED, uint32_t(row), 1, 1);
}

template <class T> __device__ __forceinline__ void scale_rows(const EmoCombineBackward &p) {
    const uint64_t row = warp_row();
    if (row >= p.tokens * p.top_k) return;
    if (p.wide) {
        scale_row<T, WIDE<T>>(p, row);
    } else {
        scale_row<T, 1>(p, row);
    }
}

template <class T, int N>
__device__ __forceinline__ float dot_rows(const T *a, const T *b, uint32_t width) {
    float sum = 0.0f;
#pragma unroll 2
    for (uint32_t pack = threadIdx.x % WARP; pack < width / N; pack += WARP) {
        float x[N], y[N];
        load(x, a + size_t(pack) * N);
        load(y, b + size_t(pack) * N);
#pragma unroll
        for (int i = 0; i < N; ++i) sum = __fmaf_rn(x[i], y[i], sum);
    }
    return warp_sum(sum);
}

template <class T> __device__ __forceinline__ void dot_slots(const EmoCombineBackward &p) {
    const uint64_t slot = warp_row();
    if (slot >= p.tokens * p.top_k) return;
    const uint32_t row = p.inverse[slot];
    float sum = 0.0f;
    if (row < p.tokens * p.top_k) {
        const T *const rows = static_cast<const T *>(p.rows), *const all_dy = static_cast<const T *>(p.dy);
        const T *const own = rows + size_t(row) * p.width, *const dy = all_dy + slot / p.top_k * p.width;
        sum = p.wide ? dot_rows<T, WIDE<T>>(dy, own, p.width) : dot_rows<T, 1>(dy, own, p.width);
    }
    if (threadIdx.x % WARP == 0) p.dweights[slot] = sum;
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_dispatch_forward, EMO_MOVE_THREADS, EmoDispatch, emo::dispatch)
EMO_KERNEL_EACH_STORAGE(emo_gather_sum, EMO_MOVE_THREADS, EmoGatherSum, emo::gather_sum)

// The slot that names each row, plus one, in the memory of `dweights`. Of several slots that name a row the last one gets
// it; some other row is then named by none, which the next kernel sees.
extern "C" __global__ void __launch_bounds__(EMO_MOVE_THREADS)
    emo_combine_mark(const __grid_constant__ EmoCombineBackward p) {
    const uint64_t slot = uint64_t(blockIdx.x) * EMO_MOVE_THREADS + threadIdx.x;
    const uint32_t slots = p.tokens * p.top_k;
    if (slot >= slots) return;
    const uint32_t row = p.inverse[slot];
    if (emo::below(p.status, EMO_SITE_COMBINE_BACKWARD_INVERSE, uint32_t(slot), row, slots)) {
        atomicMax(reinterpret_cast<uint32_t *>(p.dweights) + row, uint32_t(slot) + 1);
    }
}

EMO_KERNEL_EACH_STORAGE(emo_combine_backward_rows, EMO_MOVE_THREADS, EmoCombineBackward, emo::scale_rows)
EMO_KERNEL_EACH_STORAGE(emo_combine_backward_weights, EMO_MOVE_THREADS, EmoCombineBackward, emo::dot_slots)

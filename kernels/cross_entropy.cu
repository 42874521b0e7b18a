// Cross-entropy with z-loss over a chunk of logits, forward and backward in one launch, in place.
//
//   lse = max + log sum exp(z - max),  loss = lse - z[target]
//   z <- scale (1 + 2 z_weight lse) softmax(z) - scale [v = target]     where `backward`; 0 where the target is ignored
//
// One block a row; any width and alignment: single elements up to the first multiple of 16 bytes and behind the last, 16
// bytes a thread between. Maximum and sum are taken together in one reading (each thread rescales its sum when its
// maximum grows), then combined over the block in fixed order, the sums in f64. The first `cached` pieces of 16 bytes stay
// in shared memory for the gradient, each read only by the thread that wrote it; the host gives a block up to half a
// multiprocessor's shared memory.
// Bytes: reads and writes the row once (forward alone: reads it once), the floor. What does not fit in shared memory (of
// a row of 100352 bf16, half on an H100) is read again, from L2: two such rows a multiprocessor are 26 MB of it.
// FLOPs: about 4 an element and an exponential, twice with the gradient.
// Limits: a target out of range is reported and its row treated as ignored. The order of a sum goes by the row's address
// modulo 16 bytes.
#include "common/reduce.cuh"
#include "common/status.cuh"
#include "common/vector.cuh"
#include "include/cross_entropy.h"

namespace emo {

constexpr uint32_t THREADS = EMO_CROSS_ENTROPY_THREADS;

template <int N> struct Elements {
    static constexpr int count = N;
};

// each(Elements<N>, index of the first of N elements, number of the piece of 16 bytes), over all elements of the row.
template <class T, class Each>
__device__ __forceinline__ void each_piece(const T *row, uint32_t width, Each each) {
    const uint32_t past = reinterpret_cast<uintptr_t>(row) % 16 / sizeof(T);
    const uint32_t head = min(width, (WIDE<T> - past) % WIDE<T>), pieces = (width - head) / WIDE<T>;
    const uint32_t tail = head + pieces * WIDE<T>;
    if (threadIdx.x < head) each(Elements<1>(), threadIdx.x, 0u);
#pragma unroll 2
    for (uint32_t piece = threadIdx.x; piece < pieces; piece += THREADS) {
        each(Elements<WIDE<T>>(), head + piece * WIDE<T>, piece);
    }
    if (threadIdx.x < width - tail) each(Elements<1>(), tail + threadIdx.x, 0u);
}

// What exponents are taken relative to: where all is -inf so far, 0, so that exp(-inf) is 0 and not NaN.
__device__ __forceinline__ float reference_of(float max) { return max == -INFINITY ? 0.0f : max; }

template <class T> __device__ __forceinline__ void cross_entropy(const EmoCrossEntropy &p) {
    extern __shared__ uint4 memory[];
    Wide<T> *const cache = reinterpret_cast<Wide<T> *>(memory);
    __shared__ float maxima[THREADS / WARP];
    __shared__ double sums[THREADS / WARP];
    const uint32_t row = blockIdx.x, width = p.vocabulary;
    T *const z = static_cast<T *>(p.logits) + size_t(row) * width;
    const int32_t target = p.targets[row];
    const bool counts = target != p.ignore &&
                        below(p.status, EMO_SITE_CROSS_ENTROPY_TARGETS, row, uint32_t(target), width);
    if (!counts) {
        if (p.backward) {
            each_piece(z, width, [&](auto n, uint32_t at, uint32_t) {
                const float zeros[decltype(n)::count] = {};
                store(z + at, zeros);
            });
        }
        if (threadIdx.x == 0) p.loss[row] = p.lse[row] = 0.0f;
        return;
    }
    float max = -INFINITY, sum = 0.0f;
    each_piece(z, width, [&](auto n, uint32_t at, uint32_t piece) {
        constexpr int N = decltype(n)::count;
        float x[N];
        if constexpr (N == 1) {
            load(x, z + at);
        } else {
            const Wide<T> read = *reinterpret_cast<const Wide<T> *>(z + at);
            if (piece < p.cached) cache[piece] = read;
#pragma unroll
            for (int i = 0; i < N; ++i) x[i] = widen(read.values[i]);
        }
        float top = x[0];
#pragma unroll
        for (int i = 1; i < N; ++i) top = fmaxf(top, x[i]);
        if (top > max) {
            sum *= expf(max - top);
            max = top;
        }
        const float reference = reference_of(max);
#pragma unroll
        for (int i = 0; i < N; ++i) sum += expf(x[i] - reference);
    });
    const float at_target = widen(z[target]);  // before the barriers, behind which the gradient is written
    const float warp_top = warp_max(max);
    if (threadIdx.x % WARP == 0) maxima[threadIdx.x / WARP] = warp_top;
    __syncthreads();
    float top = maxima[0];
#pragma unroll
    for (uint32_t warp = 1; warp < THREADS / WARP; ++warp) top = fmaxf(top, maxima[warp]);
    const float reference = reference_of(top);
    const double own = double(sum) * double(expf(max - reference));
    const float total = static_cast<float>(block_sum<double, THREADS>(own, sums));
    const float log_sum = logf(total), lse = top + log_sum;
    if (threadIdx.x == 0) {
        p.loss[row] = (top - at_target) + log_sum;
        p.lse[row] = lse;
    }
    if (!p.backward) return;
    const float factor = p.scale * (1.0f + p.z_factor * lse) / total;
    each_piece(z, width, [&](auto n, uint32_t at, uint32_t piece) {
        constexpr int N = decltype(n)::count;
        float x[N];
        if (N > 1 && piece < p.cached) {
            load(x, cache[piece].values);
        } else {
            load(x, z + at);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            x[i] = __fmul_rn(expf(x[i] - reference), factor) - (at + i == uint32_t(target) ? p.scale : 0.0f);
        }
        store(z + at, x);
    });
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_cross_entropy, EMO_CROSS_ENTROPY_THREADS, EmoCrossEntropy, emo::cross_entropy)

// AdamW over a flat arena of f32 masters, with a stored copy of the new parameters; and the sum of squares.
//
//   m = b1 m + (1-b1) g,  v = b2 v + (1-b2) g^2,  g = grad_scale grads
//   p = p - lr wd p - lr / (1-b1^t) m / (sqrt(v) / sqrt(1-b2^t) + eps)
//
// Each operation is rounded once as the CPU rounds it, so masters and moments are the CPU's bits. The copy is rounded to
// the nearest, ties to even. Any length; 16-byte accesses where `wide` says so.
// Bytes: 28 an element (4 read, 3 written), and the copy's 2 or 4: the floor. FLOPs: about 14.
//
// sum of squares: out = sum x^2 in f64, a partial sum for each of at most 2048 parts, whose cut depends on the length alone,
// then their sum in a fixed order. Bytes: 4 an element, the floor. FLOPs: 2, in f64.
#include "common/reduce.cuh"
#include "common/vector.cuh"
#include "include/adamw.h"

namespace emo {

template <int N, class T> __device__ __forceinline__ void update(const EmoAdamw &r, uint64_t at) {
    float p[N], g[N], m[N], v[N];
    load(p, static_cast<const float *>(r.params) + at);
    load(g, r.grads + at);
    load(m, static_cast<const float *>(r.m) + at);
    load(v, static_cast<const float *>(r.v) + at);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const float scaled = __fmul_rn(g[i], r.grad_scale);
        m[i] = __fmaf_rn(r.beta1, m[i], __fmul_rn(r.rest1, scaled));
        v[i] = __fmaf_rn(r.beta2, v[i], __fmul_rn(__fmul_rn(r.rest2, scaled), scaled));
        const float denominator = __fmaf_rn(__fsqrt_rn(v[i]), r.correction, r.eps);
        // Where both moments and eps are 0 there is nothing to divide: the quotient is taken as 0. NaN stays NaN.
        const float quotient = denominator < 1.17549435e-38f ? 0.0f : __fdiv_rn(m[i], denominator);
        p[i] = __fmaf_rn(r.lr, quotient, __fmaf_rn(r.decay, p[i], p[i]));
    }
    store(r.params + at, p);
    store(r.m + at, m);
    store(r.v + at, v);
    if (r.copy != nullptr) store(static_cast<T *>(r.copy) + at, p);
}

template <class T> __device__ __forceinline__ void adamw(const EmoAdamw &p) {
    constexpr int N = EMO_ADAMW_ELEMENTS;
    const uint64_t block = uint64_t{blockIdx.x} * (EMO_ADAMW_THREADS * N);
    if (p.wide) {
        const uint64_t at = block + threadIdx.x * N;
        if (at + N <= p.len) {
            update<N, T>(p, at);
        } else {
            for (uint64_t i = at; i < p.len; ++i) update<1, T>(p, i);
        }
    } else {
        for (int i = 0; i < N; ++i) {
            const uint64_t at = block + i * EMO_ADAMW_THREADS + threadIdx.x;
            if (at < p.len) update<1, T>(p, at);
        }
    }
}

template <int N> __device__ __forceinline__ double squares(const EmoSquares &p, uint64_t begin, uint64_t end) {
    double sum = 0.0;
#pragma unroll 4
    for (uint64_t at = begin + threadIdx.x * N; at + N <= end; at += EMO_SQUARES_THREADS * N) {
        float x[N];
        load(x, p.x + at);
#pragma unroll
        for (int i = 0; i < N; ++i) sum = fma(double(x[i]), double(x[i]), sum);
    }
    return sum;
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_adamw, EMO_ADAMW_THREADS, EmoAdamw, emo::adamw)

extern "C" __global__ void __launch_bounds__(EMO_SQUARES_THREADS)
    emo_squares_parts(const __grid_constant__ EmoSquares p) {
    using namespace emo;
    __shared__ double scratch[EMO_SQUARES_THREADS / WARP];
    const uint64_t begin = blockIdx.x * p.part, end = min(p.len, begin + p.part);
    const uint64_t whole = begin + (end - begin) / 4 * 4;
    // The cut into threads must not depend on the address, or a copy elsewhere would sum in another order.
    double sum = 0.0;
    if (p.wide) {
        sum = squares<4>(p, begin, whole);
    } else {
        for (uint64_t at = begin + threadIdx.x * 4; at < whole; at += EMO_SQUARES_THREADS * 4) {
            for (int i = 0; i < 4; ++i) sum = fma(double(p.x[at + i]), double(p.x[at + i]), sum);
        }
    }
    if (threadIdx.x < end - whole) {
        const double x = p.x[whole + threadIdx.x];
        sum = fma(x, x, sum);
    }
    sum = block_sum<double, EMO_SQUARES_THREADS>(sum, scratch);
    if (threadIdx.x == 0) p.partial[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(EMO_SQUARES_THREADS)
    emo_squares_sum(const __grid_constant__ EmoSquares p) {
    using namespace emo;
    __shared__ double scratch[EMO_SQUARES_THREADS / WARP];
    double sum = 0.0;
    for (uint32_t part = threadIdx.x; part < p.parts; part += EMO_SQUARES_THREADS) sum += p.partial[part];
    sum = block_sum<double, EMO_SQUARES_THREADS>(sum, scratch);
    if (threadIdx.x == 0) p.out[0] = sum;
}

// The element-wise half of a feed-forward layer, and clamping.
//
// forward    out = f(gate) up, or f(pre)
// backward   dgate = dout up f'(gate), dup = dout f(gate); without a gate dpre = dout f'(pre)
// clamp      y = min(max(x, -limit), limit); backward dy = 0 where |x| > limit, in place
//
// f and f': common/activation.cuh. Layout: rows in T, gate and up concatenated or interleaved; 16-byte accesses where `wide`
// says that pointers and rows allow them. Arithmetic f32.
// Bytes, n = rows * width, s = sizeof(T): forward 3 n s gated, 2 n s plain; backward 5 n s and 3 n s; clamp 2 n s and 3 n s;
// all at the floor. FLOPs: about 10 n (silu) to 40 n (gelu).
#include "common/gated_row.cuh"

namespace emo {

template <int N, class T> __device__ __forceinline__ void forward_run(const EmoActivationRows &p, size_t row, uint32_t unit) {
    constexpr bool VECTORS = N > 1;
    const T *pre = static_cast<const T *>(p.pre) + row * p.width * (p.gated ? 2 : 1);
    float gate[N], up[N];
    if (p.gated) load_gated<VECTORS>(pre, p.layout, p.width, unit, gate, up, N);
    else load_run<VECTORS>(pre + unit, gate, N);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const float value = activate(p.activation, gate[i]).value;
        gate[i] = p.gated ? value * up[i] : value;
    }
    store_run<VECTORS>(static_cast<T *>(p.out) + row * p.width + unit, gate, N);
}

template <int N, class T> __device__ __forceinline__ void backward_run(const EmoActivationRows &p, size_t row, uint32_t unit) {
    constexpr bool VECTORS = N > 1;
    const size_t start = row * p.width * (p.gated ? 2 : 1);
    const T *pre = static_cast<const T *>(p.pre) + start;
    T *dpre = static_cast<T *>(p.out) + start;
    float gate[N], up[N], dout[N];
    if (p.gated) load_gated<VECTORS>(pre, p.layout, p.width, unit, gate, up, N);
    else load_run<VECTORS>(pre + unit, gate, N);
    load_run<VECTORS>(static_cast<const T *>(p.dout) + row * p.width + unit, dout, N);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const Activated f = activate(p.activation, gate[i]);
        gate[i] = p.gated ? dout[i] * up[i] * f.slope : dout[i] * f.slope;
        up[i] = dout[i] * f.value;
    }
    if (p.gated) store_gated<VECTORS>(dpre, p.layout, p.width, unit, gate, up, N);
    else store_run<VECTORS>(dpre + unit, gate, N);
}

template <bool BACKWARD, class T> __device__ __forceinline__ void activation(const EmoActivationRows &p) {
    const uint32_t run = blockIdx.x * EMO_ACTIVATION_THREADS + threadIdx.x;
    if (run >= p.runs) return;
    const uint32_t length = p.wide ? WIDE<T> : 1, runs_a_row = p.width / length;
    const uint32_t row = run / runs_a_row, unit = run % runs_a_row * length;
    if (p.wide) {
        if constexpr (BACKWARD) backward_run<WIDE<T>, T>(p, row, unit);
        else forward_run<WIDE<T>, T>(p, row, unit);
    } else {
        if constexpr (BACKWARD) backward_run<1, T>(p, row, unit);
        else forward_run<1, T>(p, row, unit);
    }
}

template <class T> __device__ __forceinline__ void activation_forward(const EmoActivationRows &p) { activation<false, T>(p); }
template <class T> __device__ __forceinline__ void activation_backward(const EmoActivationRows &p) { activation<true, T>(p); }

template <bool BACKWARD, int N, class T> __device__ __forceinline__ void clamp_run(const EmoClamp &p, uint64_t at) {
    const T *x = static_cast<const T *>(p.x) + at;
    T *y = static_cast<T *>(p.y) + at;
    float in[N], out[N];
    load(in, x);
    if constexpr (BACKWARD) load(out, y);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        if constexpr (BACKWARD) {
            if (!(in[i] >= -p.limit && in[i] <= p.limit)) out[i] = 0.0f;
        } else {
            out[i] = in[i] < -p.limit ? -p.limit : in[i] > p.limit ? p.limit : in[i];  // NaN stays NaN
        }
    }
    store(y, out);
}

template <bool BACKWARD, class T> __device__ __forceinline__ void clamp(const EmoClamp &p) {
    const uint64_t thread = uint64_t(blockIdx.x) * EMO_ACTIVATION_THREADS + threadIdx.x;
    const uint64_t at = thread * (p.wide ? WIDE<T> : 1);
    if (p.wide && at + WIDE<T> <= p.len) {
        clamp_run<BACKWARD, WIDE<T>, T>(p, at);
    } else {
        const uint64_t end = min(p.len, at + (p.wide ? WIDE<T> : 1));
        for (uint64_t i = at; i < end; ++i) clamp_run<BACKWARD, 1, T>(p, i);
    }
}

template <class T> __device__ __forceinline__ void clamp_forward(const EmoClamp &p) { clamp<false, T>(p); }
template <class T> __device__ __forceinline__ void clamp_backward(const EmoClamp &p) { clamp<true, T>(p); }

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_activation_forward, EMO_ACTIVATION_THREADS, EmoActivationRows, emo::activation_forward)
EMO_KERNEL_EACH_STORAGE(emo_activation_backward, EMO_ACTIVATION_THREADS, EmoActivationRows, emo::activation_backward)
EMO_KERNEL_EACH_STORAGE(emo_clamp_forward, EMO_ACTIVATION_THREADS, EmoClamp, emo::clamp_forward)
EMO_KERNEL_EACH_STORAGE(emo_clamp_backward, EMO_ACTIVATION_THREADS, EmoClamp, emo::clamp_backward)

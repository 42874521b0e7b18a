// Element-wise work on whole buffers.
//
// add: y += x. Bytes: reads x and y, writes y: 3 n sizeof(T), the floor. FLOPs: n.
// Layout: any length and alignment; 16-byte accesses where both pointers allow them.
#include "common/vector.cuh"
#include "include/memory.h"

namespace emo {

template <int N, class T> __device__ __forceinline__ void add_span(const T *x, T *y) {
    float a[N], b[N];
    load(a, x);
    load(b, y);
#pragma unroll
    for (int i = 0; i < N; ++i) b[i] += a[i];
    store(y, b);
}

template <class T> __device__ __forceinline__ void add(const EmoAdd &p) {
    const T *x = static_cast<const T *>(p.x);
    T *y = static_cast<T *>(p.y);
    const uint64_t block = uint64_t{blockIdx.x} * (EMO_MEMORY_THREADS * EMO_MEMORY_ELEMENTS);
    if (p.wide) {
        const uint64_t at = block + threadIdx.x * EMO_MEMORY_ELEMENTS;
        if (at + EMO_MEMORY_ELEMENTS <= p.len) {
            add_span<EMO_MEMORY_ELEMENTS>(x + at, y + at);
        } else {
            for (uint64_t i = at; i < p.len; ++i) add_span<1>(x + i, y + i);
        }
    } else {
        for (int i = 0; i < EMO_MEMORY_ELEMENTS; ++i) {
            const uint64_t at = block + i * EMO_MEMORY_THREADS + threadIdx.x;
            if (at < p.len) add_span<1>(x + at, y + at);
        }
    }
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_add, EMO_MEMORY_THREADS, EmoAdd, emo::add)

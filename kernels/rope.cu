// Rotary position embedding, in place, half-split layout: the first `heads` heads of each row.
//
//   (x_i, x_{i+h}) <- (x_i c - x_{i+h} s, x_{i+h} c + x_i s),  h = head_dim / 2,  c, s = cos, sin[position, i]
//   backward: the same with -s
//
// Layout: rows `stride` elements apart, what lies behind the heads is left alone; tables f32. 16-byte accesses where
// `wide` says so. A warp a row; where half a head is at most 32 pieces and divides them, a lane keeps its part of the
// table in registers for all heads. Roundings are the CPU's: one multiplication, one fused multiply-add an element.
// Bytes: reads and writes 2 heads h elements a row, the floor, and 8 h of tables a row, which rows of equal position
// share in L2. FLOPs: 6 heads h a row.
#include "common/reduce.cuh"
#include "common/status.cuh"
#include "common/vector.cuh"
#include "include/rope.h"

namespace emo {

template <class T, int N>
__device__ __forceinline__ void rotate_row(const EmoRope &p, T *row, const float *cos, const float *sin) {
    const uint32_t pieces = p.half / N, lane = threadIdx.x % WARP;
    float c[N], s[N];
    uint32_t held = 0xffffffffu;
#pragma unroll 2
    for (uint32_t at = lane; at < p.heads * pieces; at += WARP) {
        const uint32_t head = at / pieces, piece = at % pieces;
        if (piece != held) {
            load(c, cos + piece * N);
            load(s, sin + piece * N);
            held = piece;
        }
        T *const low = row + size_t(head) * 2 * p.half + piece * N, *const high = low + p.half;
        float a[N], b[N];
        load(a, low);
        load(b, high);
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const float angle = p.inverse ? -s[i] : s[i], x = a[i], y = b[i];
            a[i] = __fmaf_rn(x, c[i], -__fmul_rn(y, angle));
            b[i] = __fmaf_rn(y, c[i], __fmul_rn(x, angle));
        }
        store(low, a);
        store(high, b);
    }
}

template <class T> __device__ __forceinline__ void rope(const EmoRope &p) {
    const uint64_t row = uint64_t(blockIdx.x) * (EMO_ROPE_THREADS / WARP) + threadIdx.x / WARP;
    if (row >= p.rows) return;
    const uint32_t position = p.position[row];
    if (!below(p.status, EMO_SITE_ROPE_POSITION, uint32_t(row), position, p.positions)) return;
    T *const x = static_cast<T *>(p.x) + row * p.stride;
    const size_t table = size_t(position) * p.half;
    if (p.wide) {
        rotate_row<T, WIDE<T>>(p, x, p.cos + table, p.sin + table);
    } else {
        rotate_row<T, 1>(p, x, p.cos + table, p.sin + table);
    }
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_rope, EMO_ROPE_THREADS, EmoRope, emo::rope)

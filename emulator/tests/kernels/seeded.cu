// One small tensor-core GEMM with a seeded bug each, and small kernels with the others.
// nvcc -ptx -arch=compute_80 -O3 seeded.cu
#include <cuda_bf16.h>
#include <stdint.h>

enum Bug {
    NONE, NO_SYNC_AFTER_LOAD, NO_TRAILING_SYNC, LAX_WAIT, WRONG_FRAGMENT, MISALIGNED_COPY, MISSING_LANE, OVERLAPPING_STAGES, NO_BOUNDS
};

// C[M, N] = A[M, K] B[N, K]^T in tiles of 32 x 32 x 16, four warps of 16 x 16, two stages.
template <int BUG>
__device__ __forceinline__ void gemm(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
    constexpr int TILE = 32 * 16;
    constexpr int STAGE = BUG == OVERLAPPING_STAGES ? 2 * TILE - 64 : 2 * TILE;
    __shared__ __align__(128) __nv_bfloat16 stages[4 * TILE];
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    int row0 = blockIdx.y * 32, column0 = blockIdx.x * 32;
    auto load = [&](int stage, int k0) {
        int half = threadIdx.x >> 6, r = (threadIdx.x & 63) >> 1, q = threadIdx.x & 1;
        const __nv_bfloat16* source = half ? b : a;
        int row = (half ? column0 : row0) + r, rows = half ? n : m;
        int bytes = BUG == NO_BOUNDS || row < rows ? 16 : 0;
        const __nv_bfloat16* from = source + (size_t)(bytes ? row : 0) * k + k0 + q * 8;
        __nv_bfloat16* to = stages + stage * STAGE + half * TILE + r * 16 + q * 8 + (BUG == MISALIGNED_COPY ? 4 : 0);
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((uint32_t)__cvta_generic_to_shared(to)), "l"(from), "r"(bytes));
        asm volatile("cp.async.commit_group;");
    };
    float sum[2][4] = {};
    int wr = (warp >> 1) * 16, wc = (warp & 1) * 16, steps = k / 16;
    load(0, 0);
    for (int step = 0; step < steps; step++) {
        if (step + 1 < steps) {
            load((step + 1) & 1, (step + 1) * 16);
            if (BUG == LAX_WAIT) asm volatile("cp.async.wait_group 2;");
            else asm volatile("cp.async.wait_group 1;");
        } else {
            asm volatile("cp.async.wait_group 0;");
        }
        if (BUG != NO_SYNC_AFTER_LOAD) __syncthreads();
        const __nv_bfloat16* tile = stages + (step & 1) * STAGE;
        uint32_t x[4], y[4];
        uint32_t px = (uint32_t)__cvta_generic_to_shared(tile + (wr + (lane & 15)) * 16 + (lane >> 4) * 8);
        uint32_t py = (uint32_t)__cvta_generic_to_shared(tile + TILE + (wc + (lane & 7) + (lane >> 4) * 8) * 16 + (lane >> 3 & 1) * 8);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(px));
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(y[0]), "=r"(y[1]), "=r"(y[2]), "=r"(y[3]) : "r"(py));
        if (BUG != MISSING_LANE || lane != 31) {
            for (int j = 0; j < 2; j++)
                asm volatile(
                    "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                    : "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
                    : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[2 * j]), "r"(y[2 * j + 1]));
        }
        if (BUG != NO_TRAILING_SYNC) __syncthreads();
    }
    for (int j = 0; j < 2; j++)
        for (int h = 0; h < 4; h++) {
            int r = row0 + wr + (lane >> 2) + (h >> 1) * 8, q = column0 + wc + j * 8 + (lane & 3) * 2 + (h & 1);
            if (BUG == WRONG_FRAGMENT) r = row0 + wr + (lane >> 2) * 2 + (h >> 1);
            if (r < m && q < n) c[(size_t)r * n + q] = sum[j][h];
        }
}

#define GEMM(NAME, BUG) \
    extern "C" __global__ void NAME(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) { gemm<BUG>(a, b, c, m, n, k); }
GEMM(gemm_correct, NONE)
GEMM(gemm_no_sync_after_load, NO_SYNC_AFTER_LOAD)
GEMM(gemm_no_trailing_sync, NO_TRAILING_SYNC)
GEMM(gemm_lax_wait, LAX_WAIT)
GEMM(gemm_wrong_fragment, WRONG_FRAGMENT)
GEMM(gemm_misaligned_copy, MISALIGNED_COPY)
GEMM(gemm_missing_lane, MISSING_LANE)
GEMM(gemm_overlapping_stages, OVERLAPPING_STAGES)
GEMM(gemm_no_bounds, NO_BOUNDS)

// Reverses the values of a block through shared memory.
template <bool SYNC, bool WRITE_ALL>
__device__ __forceinline__ void reverse(float* x) {
    __shared__ float buffer[128];
    if (WRITE_ALL || threadIdx.x != 5) buffer[threadIdx.x] = x[threadIdx.x];
    if (SYNC) __syncthreads();
    x[threadIdx.x] = buffer[127 - threadIdx.x];
}
extern "C" __global__ void reverse_correct(float* x) { reverse<true, true>(x); }
extern "C" __global__ void reverse_no_sync(float* x) { reverse<false, true>(x); }
extern "C" __global__ void reverse_unwritten(float* x) { reverse<true, false>(x); }

// Neighbouring warps write the two halves of a word: no race, since they are different bytes.
extern "C" __global__ void halves(uint16_t* x) {
    __shared__ uint16_t buffer[64];
    int other = (threadIdx.x & 31) * 2 + (threadIdx.x >> 5);
    buffer[other] = x[other];
    __syncthreads();
    x[threadIdx.x] = buffer[63 - threadIdx.x];
}

extern "C" __global__ void barrier_half_a_warp(float* x) {
    if (threadIdx.x < 16) __syncthreads();
    x[threadIdx.x] = 1;
}
extern "C" __global__ void barrier_two_places(float* x) {
    if (threadIdx.x < 32) { x[0] = 1; __syncthreads(); x[1] = 2; } else { x[2] = 3; __syncthreads(); x[3] = 4; }
}
// Waits for 128 threads of a block that has 64.
extern "C" __global__ void barrier_of_too_many(float* x) {
    asm volatile("bar.sync 1, 128;");
    x[threadIdx.x] = 1;
}
// Half of the warps produce, half consume, through named barriers: correct.
extern "C" __global__ void producers(float* x) {
    __shared__ float buffer[64];
    if (threadIdx.x < 64) {
        buffer[threadIdx.x] = x[threadIdx.x] * 2;
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 1, 128;" ::: "memory");
        x[threadIdx.x] = buffer[127 - threadIdx.x];
    }
}
// The consumers wait at another barrier than the one the producers arrive at.
extern "C" __global__ void producers_wrong_barrier(float* x) {
    __shared__ float buffer[64];
    if (threadIdx.x < 64) {
        buffer[threadIdx.x] = x[threadIdx.x] * 2;
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.sync 2, 128;" ::: "memory");
        x[threadIdx.x] = buffer[127 - threadIdx.x];
    }
}
// The consumers do not wait at all.
extern "C" __global__ void producers_no_wait(float* x) {
    __shared__ float buffer[64];
    if (threadIdx.x < 64) {
        buffer[threadIdx.x] = x[threadIdx.x] * 2;
        asm volatile("bar.arrive 1, 128;" ::: "memory");
    } else {
        asm volatile("bar.arrive 1, 128;" ::: "memory");
        x[threadIdx.x] = buffer[127 - threadIdx.x];
    }
}
extern "C" __global__ void shuffle_missing_lane(float* x) {
    float v = x[threadIdx.x];
    if (threadIdx.x != 7) v += __shfl_xor_sync(~0u, v, 1);
    x[threadIdx.x] = v;
}
extern "C" __global__ void copy_elements(const float* x, float* y, int shift) { y[threadIdx.x] = x[threadIdx.x + shift]; }
extern "C" __global__ void copy_bytes_as_words(const char* x, int* y, int shift) { y[threadIdx.x] = *(const int*)(x + threadIdx.x * 4 + shift); }
extern "C" __global__ void endless(volatile float* x) { while (x[0] == 0) {} }
extern "C" __global__ void trap_if(float* x) { if (x[threadIdx.x] < 0) __trap(); }
extern "C" __global__ void unsupported_if(float* x) {
    float v = x[threadIdx.x];
    if (v < 0) asm volatile("{.reg .b64 t; mov.b64 t, 0; createpolicy.fractional.L2::evict_last.b64 t, 1.0;}");
    x[threadIdx.x] = v + 1;
}
// Each lane hands its value to its neighbour through shared memory, with and without the barrier of the warp.
template <bool SYNC>
__device__ __forceinline__ void neighbours(float* x) {
    __shared__ float buffer[64];
    volatile float* row = buffer + (threadIdx.x & ~31);
    int lane = threadIdx.x & 31;
    row[lane] = x[threadIdx.x];
    if (SYNC) __syncwarp();
    float v = row[lane ^ 1];
    if (SYNC) __syncwarp();
    row[lane] = v + 1;
    x[threadIdx.x] = row[lane];
}
extern "C" __global__ void neighbours_correct(float* x) { neighbours<true>(x); }
extern "C" __global__ void neighbours_no_sync(float* x) { neighbours<false>(x); }

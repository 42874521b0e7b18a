// The PTX instructions the kernels use beyond CUDA C++, one thin wrapper each. Source: PTX ISA 9.0.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

namespace emo::ptx {

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Starts copying BYTES (4, 8 or 16) from global to shared memory; the part beyond `valid` bytes is filled with zeros.
// Both addresses are aligned to BYTES. ISA 9.7.9.25.3.
template <int BYTES>
__device__ __forceinline__ void copy_async(void *shared, const void *global, uint32_t valid = BYTES) {
    static_assert(BYTES == 4 || BYTES == 8 || BYTES == 16, "what cp.async can move");
    if constexpr (BYTES == 16) {
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
                     "r"(valid)
                     : "memory");
    } else {
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)), "l"(global),
                     "n"(BYTES), "r"(valid)
                     : "memory");
    }
}

// Closes a group of the copies started since the last commit.
__device__ __forceinline__ void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of the newest groups are in flight; other threads' copies need a barrier after it.
template <int PENDING> __device__ __forceinline__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// Four 8x8 tiles of 16-bit elements; lane `8 i + r` holds the address of row `r` of tile `i`. ISA 9.7.14.5.15.
__device__ __forceinline__ void load_matrix_x4(uint32_t (&tiles)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// The same, each tile transposed.
__device__ __forceinline__ void load_matrix_x4_transposed(uint32_t (&tiles)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(tiles[0]), "=r"(tiles[1]), "=r"(tiles[2]), "=r"(tiles[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// d += a b for a 16x16 row-major a and a 16x8 column-major b of bf16, accumulated in f32. ISA 9.7.14.5.8.
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a b for a 16x8 row-major a and an 8x8 column-major b of tf32, accumulated in f32. ISA 9.7.14.5.6.
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// The tf32 nearest to x: 10 bits of mantissa, ties away from zero.
__device__ __forceinline__ uint32_t to_tf32(float x) {
    uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

}  // namespace emo::ptx

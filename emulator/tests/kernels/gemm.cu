#include <cuda_bf16.h>
#include <stdint.h>
// C[M,N] f32 = A[M,K] bf16 row * B[N,K] bf16 row ; 64x64x32 tile, 128 threads, 2 stages
extern "C" __global__ void __launch_bounds__(128) gemm_bf16(const __nv_bfloat16* A, const __nv_bfloat16* B, float* C, int M, int N, int K) {
  __shared__ __align__(128) __nv_bfloat16 sA[2][64*32];
  __shared__ __align__(128) __nv_bfloat16 sB[2][64*32];
  int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
  int m0 = blockIdx.y * 64, n0 = blockIdx.x * 64;
  auto load = [&](int stage, int k0) {
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      int c = tid + i * 128; int r = c >> 2, q = c & 3;
      int sw = (q ^ ((r >> 1) & 3));
      uint32_t da = (uint32_t)__cvta_generic_to_shared(&sA[stage][r*32 + sw*8]);
      uint32_t db = (uint32_t)__cvta_generic_to_shared(&sB[stage][r*32 + sw*8]);
      int okA = (m0 + r < M) ? 16 : 0, okB = (n0 + r < N) ? 16 : 0;
      const void* pa = A + (size_t)(okA ? m0 + r : 0) * K + k0 + q*8;
      const void* pb = B + (size_t)(okB ? n0 + r : 0) * K + k0 + q*8;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(da), "l"(pa), "r"(okA));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(db), "l"(pb), "r"(okB));
    }
    asm volatile("cp.async.commit_group;");
  };
  float acc[2][4][4] = {};
  int wm = (warp >> 1) * 32, wn = (warp & 1) * 32;
  int nk = K / 32;
  load(0, 0);
  for (int kt = 0; kt < nk; kt++) {
    if (kt + 1 < nk) { load((kt+1)&1, (kt+1)*32); asm volatile("cp.async.wait_group 1;"); }
    else asm volatile("cp.async.wait_group 0;");
    __syncthreads();
    int s = kt & 1;
    #pragma unroll
    for (int kk = 0; kk < 32; kk += 16) {
      uint32_t a[2][4], b[4][2];
      #pragma unroll
      for (int i = 0; i < 2; i++) {
        int r = wm + i*16 + (lane & 15), q = (kk >> 3) + (lane >> 4);
        uint32_t ad = (uint32_t)__cvta_generic_to_shared(&sA[s][r*32 + ((q ^ ((r>>1)&3)) * 8)]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(a[i][0]),"=r"(a[i][1]),"=r"(a[i][2]),"=r"(a[i][3]) : "r"(ad));
      }
      #pragma unroll
      for (int j = 0; j < 4; j++) {
        int r = wn + j*8 + (lane & 7), q = (kk >> 3) + ((lane >> 3) & 1);
        uint32_t bd = (uint32_t)__cvta_generic_to_shared(&sB[s][r*32 + ((q ^ ((r>>1)&3)) * 8)]);
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];" : "=r"(b[j][0]),"=r"(b[j][1]) : "r"(bd));
      }
      #pragma unroll
      for (int i = 0; i < 2; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++)
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
            : "+f"(acc[i][j][0]),"+f"(acc[i][j][1]),"+f"(acc[i][j][2]),"+f"(acc[i][j][3])
            : "r"(a[i][0]),"r"(a[i][1]),"r"(a[i][2]),"r"(a[i][3]),"r"(b[j][0]),"r"(b[j][1]));
    }
    __syncthreads();
  }
  #pragma unroll
  for (int i = 0; i < 2; i++)
    #pragma unroll
    for (int j = 0; j < 4; j++)
      #pragma unroll
      for (int h = 0; h < 4; h++) {
        int r = m0 + wm + i*16 + (lane>>2) + (h>>1)*8, c = n0 + wn + j*8 + (lane&3)*2 + (h&1);
        if (r < M && c < N) C[(size_t)r*N + c] = acc[i][j][h];
      }
}

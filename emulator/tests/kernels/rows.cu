#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
__device__ float warp_sum(float v){ for(int o=16;o;o>>=1) v+=__shfl_xor_sync(~0u,v,o); return v; }
__device__ float warp_max(float v){ for(int o=16;o;o>>=1) v=fmaxf(v,__shfl_xor_sync(~0u,v,o)); return v; }
extern "C" __global__ void softmax(const float* x, float* y, int n){
  __shared__ float red[32]; int t=threadIdx.x, w=t>>5, l=t&31; const float* xr=x+(size_t)blockIdx.x*n; float* yr=y+(size_t)blockIdx.x*n;
  float m=-INFINITY; for(int i=t;i<n;i+=blockDim.x) m=fmaxf(m,xr[i]); m=warp_max(m); if(l==0) red[w]=m; __syncthreads();
  m=red[0]; for(int i=1;i<blockDim.x/32;i++) m=fmaxf(m,red[i]); __syncthreads();
  float s=0; for(int i=t;i<n;i+=blockDim.x) s+=__expf(xr[i]-m); s=warp_sum(s); if(l==0) red[w]=s; __syncthreads();
  s=0; for(int i=0;i<blockDim.x/32;i++) s+=red[i];
  for(int i=t;i<n;i+=blockDim.x) yr[i]=expf(xr[i]-m)/s; }
extern "C" __global__ void rmsnorm(const __nv_bfloat16* x, const float* g, __nv_bfloat16* y, int n, float eps){
  extern __shared__ float buf[]; __shared__ float tot; int t=threadIdx.x; float s=0;
  for(int i=t*2;i<n;i+=blockDim.x*2){ float2 v=__bfloat1622float2(*(const __nv_bfloat162*)(x+(size_t)blockIdx.x*n+i)); buf[i]=v.x;buf[i+1]=v.y; s+=v.x*v.x+v.y*v.y; }
  s=warp_sum(s); __shared__ float red[8]; if((t&31)==0) red[t>>5]=s; __syncthreads(); if(t==0){ float a=0; for(int i=0;i<blockDim.x/32;i++)a+=red[i]; tot=rsqrtf(a/n+eps);} __syncthreads();
  for(int i=t*2;i<n;i+=blockDim.x*2) *(__nv_bfloat162*)(y+(size_t)blockIdx.x*n+i)=__floats2bfloat162_rn(buf[i]*tot*g[i],buf[i+1]*tot*g[i+1]); }
extern "C" __global__ void adamw(float* p, float* m, float* v, const float* g, __nv_bfloat16* pb, int n, float lr, float b1, float b2, float eps, float wd, int t){
  int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n) return; float c1=1-powf(b1,t), c2=1-powf(b2,t);
  float mm=b1*m[i]+(1-b1)*g[i], vv=b2*v[i]+(1-b2)*g[i]*g[i]; m[i]=mm; v[i]=vv; float u=(mm/c1)/(sqrtf(vv/c2)+eps)+wd*p[i]; p[i]-=lr*u; pb[i]=__float2bfloat16(p[i]); }
extern "C" __global__ void rope(float* x, int n, int d, float base){ int i=blockIdx.x*blockDim.x+threadIdx.x; if(i>=n*d/2) return; int t=i/(d/2), j=i%(d/2);
  float f=powf(base,-2.f*j/d), s,c; sincosf(t*f,&s,&c); float a=x[t*d+j], b=x[t*d+j+d/2]; x[t*d+j]=a*c-b*s; x[t*d+j+d/2]=a*s+b*c; }
extern "C" __global__ void misc(const int* x, int* out, unsigned long long* o64, double* dd, const __half* h, __half* ho, int n){
  int i=blockIdx.x*blockDim.x+threadIdx.x; unsigned b=__ballot_sync(~0u,x[i]>3); int r=__reduce_add_sync(~0u,x[i]); int mx=__reduce_max_sync(~0u,x[i]);
  atomicAdd(out,b); atomicMax(out+1,mx); atomicCAS(out+2,0,r); atomicAdd(o64,(unsigned long long)x[i]); atomicExch(out+3, __popc(b)+__clz(r)+__ffs(r)+__brev(i));
  out[8+i]=__match_any_sync(~0u,x[i]); long long q=(long long)x[i]*x[i]/7; o64[1+i]=q%n; dd[i]=sqrt((double)q)+exp(dd[i])*sin(dd[i]); ho[i]=__hfma(h[i],h[i],h[i]);
  atomicAdd((float*)(out+4),1.5f); unsigned long long m=__umul64hi(o64[1],o64[2])^__brevll(o64[3]); o64[5]=m<<(i&63); out[6]=__dp4a(x[0],x[1],x[2]); out[7]=__byte_perm(x[0],x[1],0x3210+i); 
  __nv_bfloat162 a=__floats2bfloat162_rn(x[i],x[i+1]); a=__hfma2(a,a,a); a=__hmax2(a,a); ((__nv_bfloat162*)out)[i+100]=a; if(x[i]==77) __trap(); out[5]=__float2int_rn(x[i]*0.3f)+__double2int_rz(dd[i])+(int)tanhf(x[3])+ (int)log1pf(x[4]); }
__device__ __noinline__ float slow(float a, int n){ float s=0; for(int i=0;i<n;i++) s=s*a+i; return s; }
extern "C" __global__ void calls(float* x,int n){ x[threadIdx.x]=slow(x[threadIdx.x],n)+slow(2.f,threadIdx.x); if(n==99) asm volatile("bar.sync 1, 64;"); switch(n){case 0:x[0]=1;break;case 1:x[1]=5;break;case 2:x[3]=7;break;case 3:x[1]=2;x[6]=1;break;case 4:x[9]=1;break;case 5: x[10]=9;break; case 6:x[9]=x[8];} }
__constant__ float table[4]={1,2,3,4}; __device__ int counter; __device__ int arr[3]={1,2,3};
extern "C" __global__ void glob(float* x){ x[threadIdx.x]=table[threadIdx.x&3]; atomicAdd(&counter,arr[threadIdx.x%3]); }

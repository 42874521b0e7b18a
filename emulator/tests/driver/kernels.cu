// Kernels for the tests of the driver interface. The images beside this file were made of it with nvcc 13.0.88:
//   for mode in none balance speed; do
//     nvcc -fatbin --compress-mode=$mode -gencode 'arch=compute_80,code=[sm_80,compute_80]' kernels.cu -o $mode.fatbin
//   done
// (balance is Zstandard, speed LZ4).

extern "C" __global__ void add(const float* a, const float* b, float* sum, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) sum[i] = a[i] + b[i];
}

extern "C" __global__ void scale(float* values, float factor, unsigned n) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) values[i] *= factor;
}

// Parameters of mixed sizes, so that each has to land at its own offset.
struct Mixed {
    short pair[2];
    double weight;
};

extern "C" __global__ void mixed(unsigned char byte, Mixed by_value, short half_word, double* result) {
    result[0] = byte + by_value.pair[0] * 10.0 + by_value.pair[1] * 100.0 + by_value.weight + half_word * 1000.0;
}

__device__ int counters[4] = {10, 20, 30, 40};

extern "C" __global__ void bump(int by) { counters[threadIdx.x] += by; }

// Reverses within a block, through dynamic shared memory.
extern "C" __global__ void reverse(unsigned* values) {
    extern __shared__ unsigned stage[];
    stage[threadIdx.x] = values[threadIdx.x];
    __syncthreads();
    values[threadIdx.x] = stage[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void __launch_bounds__(64) bounded(unsigned* values) { values[threadIdx.x] = threadIdx.x; }

// Writes where the host says, inside an allocation or not.
extern "C" __global__ void poke(float* values, unsigned long long at) { values[at] = 1.0f; }

extern "C" __global__ void misaligned(char* bytes) { *(int*)(bytes + 1) = 1; }

extern "C" __global__ void give_up() { __trap(); }

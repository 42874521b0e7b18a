// Expert redundancy: the mean squared cosine of the outputs of the routed experts that a token chose.
//
//   loss    = factor sum_t sum_{i<j} a_ij^2 / (m_i m_j)                 a_ij = y_i . y_j, m_i = |y_i|^2 + 1e-12
//   drow_i  = sum_{j != i} C_ij y_j - (sum_{j != i} C_ij a_ij / m_i) y_i,   C_ij = 2 factor a_ij / (m_i m_j)
//
// A first launch marks the row of every slot: tokens write the rows that `inverse` names, so it must be a permutation. Where it
// is none, that is reported, all gradients are 0 and nothing is added to the loss.
//
// In the second a block takes a token after the other, of consecutive ones: its warps compute the k (k + 1) / 2 products, its
// threads the k x k coefficients, and then each thread the columns it owns of all gradients, eight rows at a time.
//
// Layout: rows dense, in storage type, no alignment. Reads the rows (k + 1) / 2 + k / 8 times, mostly from the L1 cache
// (8 rows of 2048 bf16 are 32 KB), and writes the gradients once. FLOPs: 3 k^2 width a token. Limits: k <= 64, 2^24 slots.
#include "common/reduce.cuh"
#include "common/status.cuh"
#include "common/storage.cuh"
#include "include/losses.h"

namespace emo {
namespace {

constexpr int SLOTS = EMO_REDUNDANCY_MAX_TOP_K;
constexpr int TILE = 8;
constexpr double EPSILON = 1e-12;

// No gradient on the rows `first .. end`, and no loss of this block.
template <class T> __device__ __forceinline__ void clear(const EmoRedundancy &p, uint32_t first, uint32_t end) {
    T *dy = static_cast<T *>(p.drows) + static_cast<size_t>(first) * p.width;
    const size_t count = static_cast<size_t>(end - first) * p.width;
    for (size_t i = threadIdx.x; i < count; i += EMO_LOSS_THREADS) dy[i] = narrow<T>(0.0f);
    if (threadIdx.x == 0) p.partial[blockIdx.x] = 0.0;
}

template <class T> __device__ __forceinline__ void redundancy(const EmoRedundancy &p) {
    __shared__ float products[SLOTS][SLOTS + 1], coefficients[SLOTS][SLOTS];
    __shared__ uint32_t rows[SLOTS];
    __shared__ double scratch[EMO_LOSS_WARPS];
    const T *y = static_cast<const T *>(p.rows);
    T *dy = static_cast<T *>(p.drows);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, k = p.routed_k;
    const uint32_t first = blockIdx.x * p.block;
    const uint32_t end = p.tokens - first < p.block ? p.tokens : first + p.block;
    if (p.marks[0] != 0) {
        clear<T>(p, first * p.top_k, end * p.top_k);
        return;
    }
    double loss = 0.0;
    for (uint32_t t = first; t < end; ++t) {
        for (uint32_t i = threadIdx.x; i < p.top_k; i += EMO_LOSS_THREADS) {
            rows[i] = p.inverse[t * p.top_k + i];
        }
        __syncthreads();
        for (uint32_t pair = warp; pair < k * k; pair += EMO_LOSS_WARPS) {
            const uint32_t i = pair / k, j = pair % k;
            if (j < i) continue;
            float sum = 0.0f;
            const T *a = y + static_cast<size_t>(rows[i]) * p.width, *b = y + static_cast<size_t>(rows[j]) * p.width;
            for (uint32_t c = lane; c < p.width; c += WARP) sum += widen(a[c]) * widen(b[c]);
            sum = warp_sum(sum);
            if (lane == 0) products[i][j] = products[j][i] = sum;
        }
        __syncthreads();
        for (uint32_t i = threadIdx.x; i < k; i += EMO_LOSS_THREADS) {
            const double square = static_cast<double>(products[i][i]) + EPSILON;
            double own = 0.0;
            for (uint32_t j = 0; j < k; ++j) {
                if (j == i) continue;
                const double along = products[i][j];
                const double across = 2.0 * p.factor * along / (square * (static_cast<double>(products[j][j]) + EPSILON));
                coefficients[i][j] = static_cast<float>(across);
                own -= across * along / square;
                // A pair is met twice.
                loss += 0.25 * across * along;
            }
            coefficients[i][i] = static_cast<float>(own);
        }
        __syncthreads();
        for (uint32_t c = threadIdx.x; c < p.width; c += EMO_LOSS_THREADS) {
            for (uint32_t i = 0; i < k; i += TILE) {
                float sums[TILE];
#pragma unroll
                for (int a = 0; a < TILE; ++a) sums[a] = 0.0f;
                for (uint32_t j = 0; j < k; ++j) {
                    const float value = widen(y[static_cast<size_t>(rows[j]) * p.width + c]);
#pragma unroll
                    for (int a = 0; a < TILE; ++a) {
                        if (i + a < k) sums[a] += coefficients[i + a][j] * value;
                    }
                }
#pragma unroll
                for (int a = 0; a < TILE; ++a) {
                    if (i + a < k) dy[static_cast<size_t>(rows[i + a]) * p.width + c] = narrow<T>(sums[a]);
                }
            }
            for (uint32_t i = k; i < p.top_k; ++i) {
                dy[static_cast<size_t>(rows[i]) * p.width + c] = narrow<T>(0.0f);
            }
        }
        __syncthreads();
    }
    loss = block_sum<double, EMO_LOSS_THREADS>(loss, scratch);
    if (threadIdx.x == 0) p.partial[blockIdx.x] = loss;
}

}  // namespace
}  // namespace emo

extern "C" __global__ void __launch_bounds__(EMO_LOSS_THREADS)
    emo_redundancy_mark(const __grid_constant__ EmoRedundancy p) {
    const uint32_t slots = p.tokens * p.top_k, slot = blockIdx.x * EMO_LOSS_THREADS + threadIdx.x;
    if (slot >= slots) return;
    const uint32_t row = p.inverse[slot];
    bool fits = emo::below(p.status, EMO_SITE_LOSS_INVERSE, slot, row, slots);
    if (fits) {
        const uint32_t bit = 1u << row % 32;
        const bool again = (atomicOr(&p.marks[1 + row / 32], bit) & bit) != 0;
        // Every later slot of the row says the same.
        fits = !again || emo::below(p.status, EMO_SITE_LOSS_TWICE, row, 2, 2);
    }
    if (!fits) atomicOr(&p.marks[0], 1u);
}

EMO_KERNEL_EACH_STORAGE(emo_redundancy, EMO_LOSS_THREADS, EmoRedundancy, emo::redundancy)

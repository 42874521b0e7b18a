// Expert redundancy: the mean squared cosine of the outputs of the routed experts that a token chose.
//
//   loss    = factor sum_t sum_{i<j} a_ij^2 / (m_i m_j)                 a_ij = y_i . y_j, m_i = |y_i|^2 + 1e-12
//   drow_i  = sum_{j != i} C_ij y_j - (sum_{j != i} C_ij a_ij / m_i) y_i,   C_ij = 2 factor a_ij / (m_i m_j)
//
// A block takes a token after the other, of consecutive ones: its warps compute the k (k + 1) / 2 products, its threads the
// k x k coefficients, and then each thread the columns it owns of all gradients, eight rows at a time. A slot whose row does
// not exist is reported and left out; where two slots name one row, which a plan never does, one of them is stored.
//
// Layout: rows dense, in storage type, no alignment. Reads the rows (k + 1) / 2 + k / 8 times, mostly from the L1 cache
// (8 rows of 2048 bf16 are 32 KB), and writes the gradients once. FLOPs: 3 k^2 width a token. Limits: k <= 64.
#include "common/reduce.cuh"
#include "common/status.cuh"
#include "common/storage.cuh"
#include "include/losses.h"

namespace emo {
namespace {

constexpr int SLOTS = EMO_REDUNDANCY_MAX_TOP_K;
constexpr int TILE = 8;
constexpr uint32_t NO_ROW = UINT32_MAX;
constexpr double EPSILON = 1e-12;

template <class T> __device__ __forceinline__ void redundancy(const EmoRedundancy &p) {
    __shared__ float products[SLOTS][SLOTS + 1], coefficients[SLOTS][SLOTS];
    __shared__ uint32_t rows[SLOTS];
    __shared__ double scratch[EMO_LOSS_WARPS];
    const T *y = static_cast<const T *>(p.rows);
    T *dy = static_cast<T *>(p.drows);
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, k = p.routed_k;
    const uint32_t first = blockIdx.x * p.block;
    const uint32_t end = p.tokens - first < p.block ? p.tokens : first + p.block;
    double loss = 0.0;
    for (uint32_t t = first; t < end; ++t) {
        for (uint32_t i = threadIdx.x; i < p.top_k; i += EMO_LOSS_THREADS) {
            const uint32_t at = t * p.top_k + i, row = p.inverse[at];
            rows[i] = below(p.status, EMO_SITE_LOSS_INVERSE, at, row, p.tokens * p.top_k) ? row : NO_ROW;
        }
        __syncthreads();
        for (uint32_t pair = warp; pair < k * k; pair += EMO_LOSS_WARPS) {
            const uint32_t i = pair / k, j = pair % k;
            if (j < i) continue;
            float sum = 0.0f;
            if (rows[i] != NO_ROW && rows[j] != NO_ROW) {
                const T *a = y + static_cast<size_t>(rows[i]) * p.width, *b = y + static_cast<size_t>(rows[j]) * p.width;
                for (uint32_t c = lane; c < p.width; c += WARP) sum += widen(a[c]) * widen(b[c]);
            }
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
                    if (rows[j] == NO_ROW) continue;
                    const float value = widen(y[static_cast<size_t>(rows[j]) * p.width + c]);
#pragma unroll
                    for (int a = 0; a < TILE; ++a) {
                        if (i + a < k) sums[a] += coefficients[i + a][j] * value;
                    }
                }
#pragma unroll
                for (int a = 0; a < TILE; ++a) {
                    if (i + a < k && rows[i + a] != NO_ROW) {
                        dy[static_cast<size_t>(rows[i + a]) * p.width + c] = narrow<T>(sums[a]);
                    }
                }
            }
            for (uint32_t i = k; i < p.top_k; ++i) {
                if (rows[i] != NO_ROW) dy[static_cast<size_t>(rows[i]) * p.width + c] = narrow<T>(0.0f);
            }
        }
        __syncthreads();
    }
    loss = block_sum<double, EMO_LOSS_THREADS>(loss, scratch);
    if (threadIdx.x == 0) p.partial[blockIdx.x] = loss;
}

}  // namespace
}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_redundancy, EMO_LOSS_THREADS, EmoRedundancy, emo::redundancy)

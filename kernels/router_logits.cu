// The router's linear layer.
//
//   logits = x w^T, summed in f64, rounded once      dx += dlogits w      dw += dlogits^T x
//
// Which experts a token gets can hang on the last digit of a logit, so each is one thread's sum over the width in ascending
// order, in f64: products of f32 are exact there, and neither the batch nor the tile a token lands in changes a bit. It is
// the f64 sum rounded to f32, within 1 ulp (the CPU adds in another order; f64's rounding shows only next to a tie).
// Cost: one f64 multiply-add a term, T E d in all; on cards whose f64 rate is half of f32's (sm_80, sm_90, sm_100) about 1%
// of an OLMoE-shaped layer, on consumer cards (1/64) as much as the experts themselves. Compensated f32 sums would take some
// eight f32 instructions a term: slower where f64 is fast.
//
// Gradients need no such care: f32 products in 32 x 64 tiles, terms added in runs of 128. The weight's gradient is deep (T)
// and small (E x d), so four groups of threads share its depth and are added in order.
//
// Layout: rows dense, x and dx in storage type, the rest f32, no alignment. Forward reads x E / 32 times and w T / 64 times,
// from the L2 cache after the first. Limits: sizes below 2^32.
#include "common/storage.cuh"
#include "include/router_logits.h"

namespace emo {
namespace {

// Terms in shared memory at a time.
constexpr int DEPTH = 32;
constexpr int TOKENS = EMO_LOGITS_TOKENS, EXPERTS = EMO_LOGITS_EXPERTS;
// Padding spreads a column over the banks and keeps pairs aligned.
constexpr int X_PITCH = TOKENS + 2, W_PITCH = EXPERTS + 2;
// A thread's tile.
constexpr int OWN = 4;
static_assert((TOKENS / OWN) * (EXPERTS / OWN) == EMO_LOGITS_THREADS, "a tile a thread");

template <class T> __device__ __forceinline__ void forward(const EmoRouterLogits &p) {
    __shared__ __align__(16) double xs[DEPTH][X_PITCH];
    __shared__ __align__(16) double ws[DEPTH][W_PITCH];
    const T *x = static_cast<const T *>(p.x);
    const uint32_t token = blockIdx.x * TOKENS, expert = blockIdx.y * EXPERTS;
    const uint32_t row = threadIdx.x / (EXPERTS / OWN) * OWN, column = threadIdx.x % (EXPERTS / OWN) * OWN;
    double sum[OWN][OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) sum[i][j] = 0.0;
    }
    for (uint32_t start = 0; start < p.width; start += DEPTH) {
        for (uint32_t i = threadIdx.x; i < (TOKENS + EXPERTS) * DEPTH; i += EMO_LOGITS_THREADS) {
            const uint32_t k = i % DEPTH, line = i / DEPTH;
            const bool deep = start + k < p.width;
            if (line < TOKENS) {
                const uint32_t t = token + line;
                const bool inside = deep && t < p.tokens;
                xs[k][line] = inside ? widen(x[static_cast<size_t>(t) * p.width + start + k]) : 0.0f;
            } else {
                const uint32_t e = expert + line - TOKENS;
                const bool inside = deep && e < p.experts;
                ws[k][line - TOKENS] = inside ? p.w[static_cast<size_t>(e) * p.width + start + k] : 0.0f;
            }
        }
        __syncthreads();
        const uint32_t depth = p.width - start < DEPTH ? p.width - start : DEPTH;
#pragma unroll 4
        for (uint32_t k = 0; k < depth; ++k) {
            double a[OWN], b[OWN];
#pragma unroll
            for (int i = 0; i < OWN; i += 2) {
                const double2 pair_a = *reinterpret_cast<const double2 *>(&xs[k][row + i]);
                const double2 pair_b = *reinterpret_cast<const double2 *>(&ws[k][column + i]);
                a[i] = pair_a.x, a[i + 1] = pair_a.y, b[i] = pair_b.x, b[i + 1] = pair_b.y;
            }
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
#pragma unroll
                for (int j = 0; j < OWN; ++j) sum[i][j] = fma(a[i], b[j], sum[i][j]);
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
        const uint32_t t = token + row + i;
#pragma unroll
        for (int j = 0; j < OWN; ++j) {
            const uint32_t e = expert + column + j;
            if (t < p.tokens && e < p.experts) {
                p.logits[static_cast<size_t>(t) * p.experts + e] = static_cast<float>(sum[i][j]);
            }
        }
    }
}

constexpr int ROWS = EMO_LOGITS_ROWS, COLUMNS = EMO_LOGITS_COLUMNS, STEP = 16;
constexpr int A_PITCH = ROWS + 4, B_PITCH = COLUMNS + 4;
// Terms of a run: their sum is added to the total, so that a long sum does not drift.
constexpr int RUN = 128 / STEP;
static_assert((ROWS / OWN) * (COLUMNS / OWN) == EMO_LOGITS_GROUP, "a tile a thread");

// A tile of a b: `a(k, row)`, `b(k, column)` give 0 outside, `add(row, column, sum)` stores. A_DEEP: neighbours of a in memory
// are neighbours in k. Each group takes every GROUPS-th step of the depth.
template <int GROUPS, bool A_DEEP, class A, class B, class Add>
__device__ __forceinline__ void product(uint32_t depth, const A &a, const B &b, const Add &add) {
    __shared__ __align__(16) float as[GROUPS][STEP][A_PITCH];
    __shared__ __align__(16) float bs[GROUPS][STEP][B_PITCH];
    const uint32_t group = threadIdx.x / EMO_LOGITS_GROUP, thread = threadIdx.x % EMO_LOGITS_GROUP;
    const uint32_t row = thread / (COLUMNS / OWN) * OWN, column = thread % (COLUMNS / OWN) * OWN;
    float total[OWN][OWN], run[OWN][OWN];
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) total[i][j] = run[i][j] = 0.0f;
    }
    const uint32_t steps = depth / STEP + (depth % STEP != 0);
    for (uint32_t step = group, round = 1; step - group < steps; step += GROUPS, ++round) {
        for (uint32_t i = thread; i < ROWS * STEP; i += EMO_LOGITS_GROUP) {
            const uint32_t k = A_DEEP ? i % STEP : i / ROWS, r = A_DEEP ? i / STEP : i % ROWS;
            as[group][k][r] = step < steps ? a(step * STEP + k, r) : 0.0f;
        }
        for (uint32_t i = thread; i < COLUMNS * STEP; i += EMO_LOGITS_GROUP) {
            bs[group][i / COLUMNS][i % COLUMNS] = step < steps ? b(step * STEP + i / COLUMNS, i % COLUMNS) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < STEP; ++k) {
            const float4 va = *reinterpret_cast<const float4 *>(&as[group][k][row]);
            const float4 vb = *reinterpret_cast<const float4 *>(&bs[group][k][column]);
            const float fa[OWN] = {va.x, va.y, va.z, va.w}, fb[OWN] = {vb.x, vb.y, vb.z, vb.w};
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
#pragma unroll
                for (int j = 0; j < OWN; ++j) run[i][j] += fa[i] * fb[j];
            }
        }
        __syncthreads();
        if (round % RUN == 0 || step - group + GROUPS >= steps) {
#pragma unroll
            for (int i = 0; i < OWN; ++i) {
#pragma unroll
                for (int j = 0; j < OWN; ++j) {
                    total[i][j] += run[i][j];
                    run[i][j] = 0.0f;
                }
            }
        }
    }
    if constexpr (GROUPS > 1) {
        // The groups' totals, added one after the other in the shared memory of group 0.
        __shared__ float sums[ROWS][COLUMNS];
        for (uint32_t turn = 0; turn < GROUPS; ++turn) {
            if (turn == group) {
#pragma unroll
                for (int i = 0; i < OWN; ++i) {
#pragma unroll
                    for (int j = 0; j < OWN; ++j) {
                        const float before = turn == 0 ? 0.0f : sums[row + i][column + j];
                        sums[row + i][column + j] = total[i][j] = before + total[i][j];
                    }
                }
            }
            __syncthreads();
        }
        if (group != GROUPS - 1) return;
    }
#pragma unroll
    for (int i = 0; i < OWN; ++i) {
#pragma unroll
        for (int j = 0; j < OWN; ++j) add(row + i, column + j, total[i][j]);
    }
}

// Blocks: (tokens, columns).
template <class T> __device__ __forceinline__ void input_gradient(const EmoRouterLogits &p) {
    T *dx = static_cast<T *>(p.dx);
    const uint32_t token = blockIdx.x * ROWS, column = blockIdx.y * COLUMNS;
    const auto a = [&](uint32_t k, uint32_t row) {
        const uint32_t t = token + row;
        return k < p.experts && t < p.tokens ? p.dlogits[static_cast<size_t>(t) * p.experts + k] : 0.0f;
    };
    const auto b = [&](uint32_t k, uint32_t c) {
        c += column;
        return k < p.experts && c < p.width ? p.w[static_cast<size_t>(k) * p.width + c] : 0.0f;
    };
    product<1, true>(p.experts, a, b, [&](uint32_t row, uint32_t c, float sum) {
        const uint32_t t = token + row;
        c += column;
        if (t < p.tokens && c < p.width) {
            T &target = dx[static_cast<size_t>(t) * p.width + c];
            target = narrow<T>(widen(target) + sum);
        }
    });
}

// Blocks: (columns, experts).
template <class T> __device__ __forceinline__ void weight_gradient(const EmoRouterLogits &p) {
    const T *x = static_cast<const T *>(p.x);
    const uint32_t expert = blockIdx.y * ROWS, column = blockIdx.x * COLUMNS;
    const auto a = [&](uint32_t k, uint32_t row) {
        const uint32_t e = expert + row;
        return k < p.tokens && e < p.experts ? p.dlogits[static_cast<size_t>(k) * p.experts + e] : 0.0f;
    };
    const auto b = [&](uint32_t k, uint32_t c) {
        c += column;
        return k < p.tokens && c < p.width ? widen(x[static_cast<size_t>(k) * p.width + c]) : 0.0f;
    };
    product<EMO_LOGITS_WEIGHT_GROUPS, false>(p.tokens, a, b, [&](uint32_t row, uint32_t c, float sum) {
        const uint32_t e = expert + row;
        c += column;
        if (e < p.experts && c < p.width) p.dw[static_cast<size_t>(e) * p.width + c] += sum;
    });
}

constexpr int WEIGHT_THREADS = EMO_LOGITS_GROUP * EMO_LOGITS_WEIGHT_GROUPS;

}  // namespace
}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_router_logits_forward, EMO_LOGITS_THREADS, EmoRouterLogits, emo::forward)
EMO_KERNEL_EACH_STORAGE(emo_router_logits_dx, EMO_LOGITS_GROUP, EmoRouterLogits, emo::input_gradient)
EMO_KERNEL_EACH_STORAGE(emo_router_logits_dw, emo::WEIGHT_THREADS, EmoRouterLogits, emo::weight_gradient)

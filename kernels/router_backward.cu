// The router's gradient, with those of every loss on its outputs fused.
//
//   g      = dprobs + scatter(dweights through the normalisation)
//   dscore = p (g - sum_f p_f g_f)  |  p (1 - p) g                    (softmax | sigmoid)
//   dz     = dscore / temperature + 2 z_coefficient lse softmax(z)    (the second part: router z-loss)
//   dbias  = sum of dz over the tokens
//
// With weights w = p / n, n the L_q norm of the chosen scores, a weight's gradient reaches the score as
// (dw_i - w_i^(q-1) sum_j dw_j w_j) / n; without normalisation as dw_i. The choice itself carries no gradient.
//
// A warp takes a token, as in the forward pass. A block owns consecutive tokens whose number does not depend on the card,
// its warps take them in turn, and each keeps the sums for the bias in registers; the block adds its warps' sums in order and
// leaves one row, and `emo_sum_rows` adds the rows in order: bit-identical from run to run.
//
// Layout: rows dense and row-major, f32, no alignment. Reads p, dprobs, 16 k bytes of slots, and the logits only where the
// scores do not give softmax(z); writes 4 E bytes a token: the floor. FLOPs: about 8 E a token.
// Limits: E_r <= 1024, k <= 32.
#include "common/router_row.cuh"

namespace emo {
namespace {

// The gradient that a lane's slot puts on its expert's score, 0 beyond the routed slots.
__device__ __forceinline__ double slot_gradient(const EmoRouterInputs &in, float score, float w, float dw) {
    if (in.norm_power == 0.0) return dw;
    const double along = warp_sum(static_cast<double>(w) * static_cast<double>(dw));
    const double norm = score_norm(static_cast<double>(score), in.norm_power);
    // Nothing flows through a score of 0; the power would be infinite for q < 1.
    if (w == 0.0f) return 0.0;
    const double slope = in.norm_power == 1.0 ? 1.0 : exp((in.norm_power - 1.0) * log(static_cast<double>(w)));
    return (static_cast<double>(dw) - slope * along) / norm;
}

template <int N>
__device__ __forceinline__ void token(const EmoRouterBackward &p, uint32_t t, uint32_t lane, float (&sums)[N],
                                      float &shared_sum) {
    const EmoRouterInputs &in = p.inputs;
    const uint32_t shared = in.experts - in.routed, routed_k = in.top_k - shared;
    const size_t slots = static_cast<size_t>(t) * in.top_k, row_at = static_cast<size_t>(t) * in.routed;
    float *dlogits = p.dlogits + static_cast<size_t>(t) * in.experts;

    float score[N], d[N];
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        score[j] = e < in.routed ? p.probs[row_at + e] : 0.0f;
    }
    const float z_factor = static_cast<float>(2.0 * p.z_coefficient * static_cast<double>(p.lse[t]));
    float z_scale = 0.0f;
    if (z_factor == 0.0f) {
#pragma unroll
        for (int j = 0; j < N; ++j) d[j] = 0.0f;
    } else if (!in.sigmoid && in.temperature == 1.0) {
        z_scale = z_factor;
#pragma unroll
        for (int j = 0; j < N; ++j) d[j] = score[j];
    } else {
        RouterRow<N> row;
        if (row.load(in, p.status, t, lane)) {
            z_scale = z_factor / row.exponentials(in, lane, 1.0f, d);
        } else {
#pragma unroll
            for (int j = 0; j < N; ++j) d[j] = 0.0f;
        }
    }

    // Lane i keeps slot i. An expert that does not exist is reported and gets nothing.
    uint32_t slot_expert = 0;
    float w = 0.0f, dw = 0.0f, slot_score = 0.0f;
    bool valid = false;
    if (lane < in.top_k) {
        slot_expert = p.indices[slots + lane];
        const uint32_t bound = lane < routed_k ? in.routed : in.experts;
        valid = below(p.status, EMO_SITE_ROUTER_INDICES, static_cast<uint32_t>(slots + lane), slot_expert, bound);
        w = p.weights[slots + lane];
        dw = p.dweights[slots + lane];
    }
    const bool own = valid && lane < routed_k;
    if (own) slot_score = p.probs[row_at + slot_expert];
    const double slot = slot_gradient(in, slot_score, own ? w : 0.0f, own ? dw : 0.0f);

    double mean = 0.0;
    float part = 0.0f;
    if (!in.sigmoid) {
        if (p.dprobs) {
#pragma unroll
            for (int j = 0; j < N; ++j) {
                const uint32_t e = RouterRow<N>::expert(j, lane);
                if (e < in.routed) part += score[j] * p.dprobs[row_at + e];
            }
        }
        mean = warp_sum(static_cast<double>(part) + (own ? static_cast<double>(slot_score) * slot : 0.0));
    }
    const float scale = static_cast<float>(1.0 / in.temperature);
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        const float g = p.dprobs && e < in.routed ? p.dprobs[row_at + e] : 0.0f;
        const float slope = in.sigmoid ? score[j] * (1.0f - score[j]) * g : score[j] * (g - static_cast<float>(mean));
        d[j] = d[j] * z_scale + slope * scale;
    }
    const double factor = static_cast<double>(slot_score) * (in.sigmoid ? 1.0 - static_cast<double>(slot_score) : 1.0);
    const float through_slot = own ? static_cast<float>(factor * slot / in.temperature) : 0.0f;
    for (uint32_t i = 0; i < routed_k; ++i) {
        const uint32_t e = __shfl_sync(ALL_LANES, slot_expert, i);
        const float add = __shfl_sync(ALL_LANES, through_slot, i);
#pragma unroll
        for (int j = 0; j < N; ++j) d[j] += RouterRow<N>::expert(j, lane) == e ? add : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const uint32_t e = RouterRow<N>::expert(j, lane);
        if (e < in.routed) {
            dlogits[e] = d[j];
            sums[j] += d[j];
        }
    }

    // Lane s keeps the s-th shared expert, and looks for its slot.
    float d_shared = 0.0f;
    if (in.shared_softmax && shared != 0) {
        const bool is_shared = valid && lane >= routed_k;
        const double along = warp_sum(is_shared ? static_cast<double>(w) * static_cast<double>(dw) : 0.0);
        const double gradient = static_cast<double>(w) * (static_cast<double>(dw) - along) / in.temperature;
        for (uint32_t i = routed_k; i < in.top_k; ++i) {
            const uint32_t e = __shfl_sync(ALL_LANES, slot_expert, i);
            const float value = __shfl_sync(ALL_LANES, static_cast<float>(gradient), i);
            if (e == in.routed + lane) d_shared = value;
        }
    }
    if (lane < shared) {
        dlogits[in.routed + lane] = d_shared;
        shared_sum += d_shared;
    }
}

template <int N> __device__ __forceinline__ void backward(const EmoRouterBackward &p) {
    __shared__ float row[EMO_ROUTER_WARPS][WARP];
    const uint32_t lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t first = blockIdx.x * p.tokens_per_block;
    const uint32_t left = p.inputs.tokens - first;
    const uint32_t end = first + (left < p.tokens_per_block ? left : p.tokens_per_block);
    float sums[N], shared_sum = 0.0f;
#pragma unroll
    for (int j = 0; j < N; ++j) sums[j] = 0.0f;
    for (uint32_t t = first + warp; t < end; t += EMO_ROUTER_WARPS) token<N>(p, t, lane, sums, shared_sum);
    if (!p.partial) return;
    double *partial = p.partial + static_cast<size_t>(blockIdx.x) * p.inputs.experts;
#pragma unroll
    for (int j = 0; j <= N; ++j) {
        row[warp][lane] = j < N ? sums[j < N ? j : 0] : shared_sum;
        __syncthreads();
        if (warp == 0) {
            double sum = 0.0;
            for (int i = 0; i < EMO_ROUTER_WARPS; ++i) sum += static_cast<double>(row[i][lane]);
            const uint32_t e = (j < N ? RouterRow<N>::expert(j, lane) : p.inputs.routed + lane);
            if (e < (j < N ? p.inputs.routed : p.inputs.experts)) partial[e] = sum;
        }
        __syncthreads();
    }
}

}  // namespace
}  // namespace emo

// As in the forward pass.
#define EMO_ROUTER_BACKWARD(EXPERTS, BLOCKS)                                          \
    extern "C" __global__ void __launch_bounds__(EMO_ROUTER_THREADS, BLOCKS)          \
        emo_router_backward_##EXPERTS(const __grid_constant__ EmoRouterBackward p) {  \
        emo::backward<EXPERTS / 32>(p);                                               \
    }
EMO_ROUTER_BACKWARD(32, 4)
EMO_ROUTER_BACKWARD(64, 4)
EMO_ROUTER_BACKWARD(128, 3)
EMO_ROUTER_BACKWARD(256, 2)
EMO_ROUTER_BACKWARD(512, 1)
EMO_ROUTER_BACKWARD(1024, 1)

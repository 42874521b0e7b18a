// Smoothing of router logits: a 1-D convolution over the tokens of each document.
//
//   y[t, c]    = sum_j k[j] x[t + j - (W - 1) + ahead, c] / D[t]      over the taps inside the document of t
//   D[t]       = 1, or the sum of those taps (0 there gives 0)
//   dx[s, c]   = sum_j k[j] dy[t, c] / D[t]                           t = s - j + (W - 1) - ahead
//   dk[j]     += sum_t dy[t, c] (x[s, c] - y[t, c]) / D[t]            without `- y` where D = 1
//
// Here a block takes 64 tokens of 32 channels with a halo of W - 1 tokens in shared memory; a thread takes a channel and
// every eighth token. The router and the pool run the same code in front of their own work (smoothing_tile.cuh). Tokens are in
// one document when they name the same segment, so no offset is followed.
// Gradients of taps go in two stages: a thread adds its tokens in order, the block its threads, and `emo_sum_rows` the
// blocks, each in a fixed order and a cut that does not depend on the card.
//
// Layout: rows dense, f32, no alignment. Reads (64 + W - 1) / 64 of x (backward: of x and dy), writes y (dx): the floor but
// for the halo. FLOPs: 2 W an element forward, about 6 W backward. Limits: W <= 9.
#include "common/smoothing_tile.cuh"

namespace emo {
namespace {

constexpr int TOKENS = EMO_SMOOTHING_TOKENS;
constexpr int CHANNELS = EMO_SMOOTHING_CHANNELS;
constexpr int ROWS = SMOOTHING_ROWS;

}  // namespace
}  // namespace emo

extern "C" __global__ void __launch_bounds__(EMO_SMOOTHING_THREADS)
    emo_smoothing_forward(const __grid_constant__ EmoSmoothing p) {
    using namespace emo;
    __shared__ SmoothingTile tile;
    const uint32_t first = blockIdx.x * TOKENS;
    const uint32_t end = p.tokens - first < TOKENS ? p.tokens : first + TOKENS;
    smooth(p, first, end, blockIdx.y * CHANNELS, tile);
}

extern "C" __global__ void __launch_bounds__(EMO_SMOOTHING_THREADS)
    emo_smoothing_backward(const __grid_constant__ EmoSmoothing p) {
    using namespace emo;
    // `g` is dy / D, with the halo of the transposed taps; segments reach as far as the taps of that halo.
    __shared__ float x[TOKENS + MAX_HALO][CHANNELS], g[TOKENS + MAX_HALO][CHANNELS];
    __shared__ uint32_t segment[TOKENS + 2 * MAX_HALO];
    __shared__ float sums[ROWS][WARP];
    const uint32_t channel = blockIdx.y * CHANNELS, lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const uint32_t c = channel + lane, halo = p.width - 1, before = halo - p.ahead;
    const Taps taps(p, c < p.channels ? c : 0);
    float dtaps[MAX_TAPS];
#pragma unroll
    for (int j = 0; j < MAX_TAPS; ++j) dtaps[j] = 0.0f;
    for (uint32_t tile = 0; tile < p.tiles; ++tile) {
        const uint64_t at = (static_cast<uint64_t>(blockIdx.x) * p.tiles + tile) * TOKENS;
        if (at >= p.tokens) break;
        const uint32_t first = static_cast<uint32_t>(at);
        // Row i of `g` is token first - ahead + i, row i of `x` is first - before + i, entry i of `segment` first - halo + i.
        const int64_t origin = static_cast<int64_t>(first);
        load_segments(p, origin - halo, TOKENS + 2 * halo, segment);
        load_rows(p, p.x, origin - before, TOKENS + halo, channel, x);
        load_rows(p, p.dy, origin - p.ahead, TOKENS + halo, channel, g);
        __syncthreads();
        if (p.renormalise) {
            for (uint32_t row = warp; row < TOKENS + halo; row += ROWS) {
                const uint32_t inside = taps.reach(&segment[row], segment[row + before]);
                g[row][lane] *= taps.factor(inside, true);
            }
            __syncthreads();
        }
        for (uint32_t row = warp; row < TOKENS && row < p.tokens - first; row += ROWS) {
            const uint32_t own = segment[row + halo];
            float sum = 0.0f;
#pragma unroll
            for (int j = 0; j < MAX_TAPS; ++j) {
                // The token whose tap j looks here: row + halo - j in the numbering of `g`, ahead further in that of tokens.
                if (j < p.width && own != NO_SEGMENT && segment[row + halo - j + before] == own) {
                    sum += taps.k[j] * g[row + halo - j][lane];
                }
            }
            if (c < p.channels) p.dx[static_cast<size_t>(first + row) * p.channels + c] = sum;
            const uint32_t inside = taps.reach(&segment[row + p.ahead], own);
            const float y =
                p.renormalise ? taps.apply(&x[row][lane], CHANNELS, inside) * taps.factor(inside, true) : 0.0f;
            const float gradient = g[row + p.ahead][lane];
#pragma unroll
            for (int j = 0; j < MAX_TAPS; ++j) {
                if (inside >> j & 1u) dtaps[j] += gradient * (x[row + j][lane] - y);
            }
        }
        __syncthreads();
    }
    if (!p.partial) return;
    double *partial = p.partial + (p.depthwise ? static_cast<size_t>(blockIdx.x) * p.channels * p.width
                                               : (static_cast<size_t>(blockIdx.x) * gridDim.y + blockIdx.y) * p.width);
#pragma unroll
    for (int j = 0; j < MAX_TAPS; ++j) {
        if (j >= p.width) break;
        sums[warp][lane] = dtaps[j];
        __syncthreads();
        if (warp == 0) {
            double sum = 0.0;
            for (int i = 0; i < ROWS; ++i) sum += static_cast<double>(sums[i][lane]);
            if (p.depthwise) {
                if (c < p.channels) partial[static_cast<size_t>(c) * p.width + j] = sum;
            } else {
                sum = warp_sum(sum);
                if (lane == 0) partial[j] = sum;
            }
        }
        __syncthreads();
    }
}

// The routing weights' gradients from the parts that the output projection's dgrad left:
// dweights[order[r]] = sum over the row's parts, in ascending order.
//
// One thread a row. Bytes: 4 rows (parts + 2), the floor; parts = hidden / 64 at the width of a layer. FLOPs: rows * parts.
#include "common/status.cuh"
#include "common/storage.cuh"
#include "include/grouped_gemm.h"

extern "C" __global__ void __launch_bounds__(EMO_EXPERTS_THREADS)
    emo_experts_dweights(const __grid_constant__ EmoExpertsOutDgrad p) {
    const uint64_t row = uint64_t(blockIdx.x) * EMO_EXPERTS_THREADS + threadIdx.x;
    if (row >= p.groups.rows) return;
    const uint32_t slot = p.order[row];
    if (!emo::below(p.status, p.order_site, row, slot, p.slots)) return;
    float sum = 0.0f;
    for (uint32_t part = 0; part < p.parts; ++part) sum += p.partials[row * p.parts + part];
    p.dweights[slot] = sum;
}

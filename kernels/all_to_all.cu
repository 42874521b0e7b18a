// The plans of an exchange between ranks; the exchange itself is the communicator's.
//
//   send     counts[e] = offsets[e + 1] - offsets[e],  send[r] = offsets[first(r)],  first(r) = r experts / ranks
//   receive  received rows lie by (sender, expert), grouped rows by (expert, sender): for the i-th row of a cell
//            gather[grouped] = received, inverse[received] = grouped, where both begin at the rows of all cells before
//
// Receive: one block a cell adds up the counts of the cells before it, in both orders, and writes the cell's rows. So it
// needs neither workspace nor a second launch; the ranks x experts numbers come out of L2 for each block.
// Bytes: send 8 (experts + 1), receive 8 a row and 4 (ranks x experts)^2 of cached counts. FLOPs: none.
// Limits: a few thousand cells (64 ranks of 16 experts are 1024), beyond which the counts' readings outweigh the rows.
#include "common/reduce.cuh"
#include "common/status.cuh"
#include "include/all_to_all.h"

namespace emo {

constexpr uint32_t THREADS = EMO_ALL_TO_ALL_THREADS;

// A bad offset is reported and taken as 0.
__device__ __forceinline__ uint32_t offset(const EmoSendPlan &p, uint32_t expert) {
    const uint32_t value = p.offsets[expert];
    return below(p.status, EMO_SITE_SEND_PLAN_OFFSETS, expert, value, p.rows + 1) ? value : 0;
}

}  // namespace emo

extern "C" __global__ void __launch_bounds__(EMO_ALL_TO_ALL_THREADS)
    emo_send_plan(const __grid_constant__ EmoSendPlan p) {
    using namespace emo;
    const uint32_t at = blockIdx.x * THREADS + threadIdx.x;
    if (at < p.experts) {
        const uint32_t begin = offset(p, at), end = offset(p, at + 1);
        const bool ascending = below(p.status, EMO_SITE_SEND_PLAN_OFFSETS, at, begin, end + 1);
        p.counts[at] = ascending ? end - begin : 0;
    }
    if (at <= p.ranks) p.send[at] = offset(p, uint32_t(uint64_t(at) * p.experts / p.ranks));
    if (at == 0) below(p.status, EMO_SITE_SEND_PLAN_OFFSETS, 0, p.offsets[0], 1);
}

extern "C" __global__ void __launch_bounds__(EMO_ALL_TO_ALL_THREADS)
    emo_receive_plan(const __grid_constant__ EmoReceivePlan p) {
    using namespace emo;
    __shared__ unsigned long long scratch[THREADS / WARP];
    const uint32_t sender = blockIdx.x, expert = blockIdx.y;
    unsigned long long received = 0, grouped = 0;
    for (uint32_t cell = threadIdx.x; cell < p.ranks * p.experts; cell += THREADS) {
        const uint32_t from = cell / p.experts, to = cell % p.experts, count = p.counts[cell];
        if (from < sender || (from == sender && to < expert)) received += count;
        if (to < expert || (to == expert && from < sender)) grouped += count;
    }
    received = block_sum<unsigned long long, THREADS>(received, scratch);
    grouped = block_sum<unsigned long long, THREADS>(grouped, scratch);
    const uint32_t cell = sender * p.experts + expert, count = p.counts[cell];
    const bool last_sender = sender + 1 == p.ranks, last_expert = expert + 1 == p.experts;
    if (threadIdx.x == 0) {
        // Sums that do not fit are reported below, by the cells that have no room.
        if (expert == 0) p.receive[sender] = uint32_t(received);
        if (sender == 0) p.offsets[expert] = uint32_t(grouped);
        if (last_sender && last_expert) p.receive[p.ranks] = p.offsets[p.experts] = uint32_t(received + count);
    }
    const unsigned long long end = max(received, grouped) + count;
    if (end > p.room) {
        if (threadIdx.x == 0) {
            const uint32_t found = uint32_t(min(end, 0xffffffffull));
            below(p.status, EMO_SITE_RECEIVE_PLAN_COUNTS, cell, found, min(p.room, 0xfffffffeu) + 1);
        }
        return;
    }
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        p.gather[grouped + i] = uint32_t(received) + i;
        p.inverse[received + i] = uint32_t(grouped) + i;
    }
}

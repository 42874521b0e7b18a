// The plan: a stable counting sort of the slots by expert, three launches, nothing on the host.
//
//   order[row] = slot, inverse[slot] = row, token[row] = slot / top_k, rows of expert e: offsets[e] .. offsets[e + 1]
//   row(slot) = #{slots of lower experts} + #{earlier slots of the same expert}
//
// The result is unique, so it depends neither on the number of blocks nor on the order of integer atomics.
//   count  each block counts the experts of its slots, in shared memory
//   scan   one block turns the counts of (block, expert) into the block's first row of that expert, and writes `offsets`
//   place  each block hands out its rows: its warps own neighbouring slots in order, lanes of a warp rank by `match`
// There is no workspace: the counts of block 0 lie in `offsets`, those of block b > 0 in the first experts + 1 elements of
// its own part of `inverse`, which it reads before it writes that part. So a block has more than `experts` slots; where
// experts + 1 exceeds EMO_PLAN_BINS there is one block, which takes the experts in turns.
//
// A slot whose expert is out of range is reported and sorted behind all others: order stays a permutation.
// Bytes: the floor is 16 per slot; moved are 24 (indices are read three times, mostly from L2). FLOPs: none.
// Limits: slots <= 2^31. Scattered 4-byte writes of order and token meet in L2. One block serves more than 1151 experts.
#include "common/scan.cuh"
#include "common/status.cuh"
#include "include/permutation.h"

namespace emo {

constexpr uint32_t PLAN_WARPS = EMO_PLAN_THREADS / WARP;

struct Range {
    uint32_t begin, end;
};

// The slots of a block: equal parts, the last one takes the rest.
__device__ __forceinline__ Range block_slots(const EmoPlan &p, uint32_t block) {
    const uint32_t each = p.slots / p.blocks;
    return {block * each, block + 1 == p.blocks ? p.slots : (block + 1) * each};
}

// Where the counts, later the first rows, of a block are kept.
__device__ __forceinline__ uint32_t *kept(const EmoPlan &p, uint32_t block) {
    return block == 0 ? p.offsets : p.inverse + block_slots(p, block).begin;
}

// The bin of a slot; bin `experts` is for those out of range.
__device__ __forceinline__ uint32_t bin_of(const EmoPlan &p, uint32_t slot) {
    const uint32_t expert = p.indices[slot];
    return expert < p.experts ? expert : p.experts;
}

}  // namespace emo

extern "C" __global__ void __launch_bounds__(EMO_PLAN_THREADS) emo_plan_count(const __grid_constant__ EmoPlan p) {
    using namespace emo;
    __shared__ uint32_t counts[EMO_PLAN_BINS];
    const Range slots = block_slots(p, blockIdx.x);
    uint32_t *const out = kept(p, blockIdx.x);
    for (uint32_t first = 0; first <= p.experts; first += EMO_PLAN_BINS) {
        const uint32_t bins = min(uint32_t(EMO_PLAN_BINS), p.experts + 1 - first);
        for (uint32_t bin = threadIdx.x; bin < bins; bin += EMO_PLAN_THREADS) counts[bin] = 0;
        __syncthreads();
        for (uint32_t slot = slots.begin + threadIdx.x; slot < slots.end; slot += EMO_PLAN_THREADS) {
            const uint32_t expert = p.indices[slot];
            if (first == 0) below(p.status, EMO_SITE_PLAN_INDICES, slot, expert, p.experts);
            const uint32_t bin = min(expert, p.experts) - first;
            if (bin < bins) atomicAdd(&counts[bin], 1u);
        }
        __syncthreads();
        for (uint32_t bin = threadIdx.x; bin < bins; bin += EMO_PLAN_THREADS) out[first + bin] = counts[bin];
        __syncthreads();
    }
}

// Threads form a table: neighbouring threads take neighbouring bins, the rows of the table equal parts of the blocks.
extern "C" __global__ void __launch_bounds__(EMO_PLAN_SCAN_THREADS) emo_plan_scan(const __grid_constant__ EmoPlan p) {
    using namespace emo;
    constexpr uint32_t THREADS = EMO_PLAN_SCAN_THREADS;
    __shared__ uint32_t sums[THREADS];
    __shared__ uint32_t scratch[THREADS / WARP];
    const uint32_t lanes = min(THREADS, (p.experts + WARP) / WARP * WARP);
    const uint32_t parts = THREADS / lanes, part = threadIdx.x / lanes, lane = threadIdx.x % lanes;
    const uint32_t each = (p.blocks + parts - 1) / parts;
    const uint32_t begin = min(p.blocks, part * each), end = min(p.blocks, begin + each);
    uint32_t carry = 0;
    for (uint32_t first = 0; first <= p.experts; first += lanes) {
        const uint32_t bin = first + lane;
        const bool mine = bin <= p.experts && part < parts;
        uint32_t sum = 0;
        if (mine) {
#pragma unroll 8
            for (uint32_t block = begin; block < end; ++block) sum += kept(p, block)[bin];
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        uint32_t before = 0, total = 0;
        if (threadIdx.x < lanes) {
            for (uint32_t other = 0; other < parts; ++other) total += sums[other * lanes + lane];
        }
        const uint32_t base = block_exclusive<THREADS>(total, scratch, total) + carry;
        for (uint32_t other = 0; other < parts && threadIdx.x < lanes; ++other) {
            const uint32_t own = sums[other * lanes + lane];
            sums[other * lanes + lane] = base + before;
            before += own;
        }
        __syncthreads();
        uint32_t row = sums[threadIdx.x];
        if (mine) {
#pragma unroll 4
            for (uint32_t block = begin; block < end; ++block) {
                uint32_t *const cell = kept(p, block) + bin;
                const uint32_t count = *cell;
                *cell = row;
                row += count;
            }
        }
        carry += total;
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(EMO_PLAN_THREADS) emo_plan_place(const __grid_constant__ EmoPlan p) {
    using namespace emo;
    // The next row of each bin, for each warp.
    __shared__ uint32_t cursors[PLAN_WARPS][EMO_PLAN_BINS];
    const uint32_t warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const Range block = block_slots(p, blockIdx.x);
    const uint32_t each = (block.end - block.begin + PLAN_WARPS - 1) / PLAN_WARPS;
    const uint32_t begin = min(block.end, block.begin + warp * each), end = min(block.end, begin + each);
    const uint32_t *const first_rows = kept(p, blockIdx.x);
    uint32_t *const cursor = cursors[warp];
    for (uint32_t first = 0; first <= p.experts; first += EMO_PLAN_BINS) {
        const uint32_t bins = min(uint32_t(EMO_PLAN_BINS), p.experts + 1 - first);
        for (uint32_t bin = lane; bin < bins; bin += WARP) cursor[bin] = 0;
        __syncwarp();
        for (uint32_t slot = begin + lane; slot < end; slot += WARP) {
            const uint32_t bin = bin_of(p, slot) - first;
            if (bin < bins) atomicAdd(&cursor[bin], 1u);
        }
        __syncthreads();
        for (uint32_t bin = threadIdx.x; bin < bins; bin += EMO_PLAN_THREADS) {
            uint32_t row = first_rows[first + bin];
            for (uint32_t other = 0; other < PLAN_WARPS; ++other) {
                const uint32_t count = cursors[other][bin];
                cursors[other][bin] = row;
                row += count;
            }
        }
        __syncthreads();
        for (uint32_t at = begin; at < end; at += WARP) {
            const uint32_t slot = at + lane;
            const uint32_t bin = slot < end ? bin_of(p, slot) - first : 0xffffffffu;
            const bool mine = bin < bins;
            const uint32_t peers = __match_any_sync(ALL_LANES, mine ? bin : 0xffffffffu);
            const uint32_t rank = __popc(peers & ((1u << lane) - 1));
            uint32_t row = 0;
            if (mine) row = cursor[bin] + rank;
            __syncwarp();
            if (mine && rank == 0) cursor[bin] = row + __popc(peers);
            __syncwarp();
            if (mine) {
                p.order[row] = slot;
                p.token[row] = slot / p.top_k;
                p.inverse[slot] = row;
            }
        }
        __syncthreads();
    }
}

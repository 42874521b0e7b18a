// Which tiles a block computes: a static stride over the flattened list of all groups' tiles, found from the offsets on the
// device. A tile has one owner and is summed in one order, so the number of blocks does not change a bit of the result.
#pragma once
#include "../reduce.cuh"
#include "../status.cuh"
#include "tile.cuh"

namespace emo::gemm {

// One tile: outputs from (m, n), m below m_end; the sum runs over k..k_end.
struct Work {
    bool any;
    uint32_t group, m, m_end, n, k, k_end;
};

struct Range {
    uint32_t begin, end;
};

// The rows of a group, cut to what exists; offsets that do not ascend from 0 to `rows` are reported.
__device__ __forceinline__ Range rows_of(const EmoGroups &groups, uint32_t group, EmoStatus *status) {
    if (groups.offsets == nullptr) {
        const uint64_t begin = uint64_t(group) * groups.group_rows, end = begin + groups.group_rows;
        return {uint32_t(min(begin, uint64_t(groups.rows))), uint32_t(min(end, uint64_t(groups.rows)))};
    }
    const uint32_t begin = groups.offsets[group], end = groups.offsets[group + 1];
    const bool last = group + 1 == groups.count;
    if (group == 0) below(status, groups.site, 0, begin, 1);
    if (last && end < groups.rows) below(status, groups.site, group + 1, end, 0);
    below(status, groups.site, group + 1, end, groups.rows + 1);
    below(status, groups.site, group, begin, end + 1);
    const uint32_t cut = min(end, groups.rows);
    return {min(begin, cut), cut};
}

// Tiles of rows by columns. Within a group they are ordered in bands of a few row tiles, column by column, so that blocks
// at work together share weights and rows in the second-level cache.
template <class Tile> struct RowTiles {
    static constexpr uint32_t BAND = 8;

    uint32_t columns, depth;    // outputs a row in tiles, reduction
    uint32_t next_tile, group;  // `first`: row tiles before `group`
    uint32_t first;

    __device__ __forceinline__ RowTiles(uint32_t columns_, uint32_t depth_)
        : columns((columns_ + Tile::N - 1) / Tile::N), depth(depth_), next_tile(blockIdx.x), group(0), first(0) {}

    // Called by whole warps; every warp of the block finds the same tile.
    __device__ __forceinline__ Work next(const EmoGroups &groups, EmoStatus *status) {
        const uint32_t lane = threadIdx.x % WARP, target = next_tile / columns;
        for (; group < groups.count; group += WARP) {
            Range rows = {0, 0};
            if (group + lane < groups.count) rows = rows_of(groups, group + lane, status);
            const uint32_t tiles = (rows.end - rows.begin + Tile::M - 1) / Tile::M;
            uint32_t through = tiles;  // tiles of the groups up to this lane's
#pragma unroll
            for (int distance = 1; distance < WARP; distance *= 2) {
                const uint32_t other = __shfl_up_sync(ALL_LANES, through, distance);
                if (lane >= distance) through += other;
            }
            const uint32_t found = __ballot_sync(ALL_LANES, first + through > target);
            if (found == 0) {
                first += __shfl_sync(ALL_LANES, through, WARP - 1);
                continue;
            }
            const int owner = __ffs(found) - 1;
            const uint32_t begin = __shfl_sync(ALL_LANES, rows.begin, owner);
            const uint32_t end = __shfl_sync(ALL_LANES, rows.end, owner);
            const uint32_t height = __shfl_sync(ALL_LANES, tiles, owner);
            first += __shfl_sync(ALL_LANES, through - tiles, owner);
            group += owner;

            const uint32_t local = next_tile - first * columns;
            const uint32_t band = local / (BAND * columns), in_band = local % (BAND * columns);
            const uint32_t band_height = min(BAND, height - band * BAND);
            next_tile += gridDim.x;
            return {true, group, begin + (band * BAND + in_band % band_height) * Tile::M, end,
                    in_band / band_height * Tile::N, 0, depth};
        }
        return {};
    }
};

// Tiles of the groups' weights, summed over the groups' rows; groups without rows have no work.
template <class Tile> struct WeightTiles {
    uint32_t m_size, m_tiles, n_tiles, next_tile;

    __device__ __forceinline__ WeightTiles(uint32_t m, uint32_t n)
        : m_size(m), m_tiles((m + Tile::M - 1) / Tile::M), n_tiles((n + Tile::N - 1) / Tile::N), next_tile(blockIdx.x) {}

    __device__ __forceinline__ Work next(const EmoGroups &groups, EmoStatus *status) {
        const uint32_t tiles = m_tiles * n_tiles;
        for (; next_tile / tiles < groups.count; next_tile += gridDim.x) {
            const uint32_t group = next_tile / tiles, local = next_tile % tiles;
            const Range rows = rows_of(groups, group, status);
            if (rows.begin == rows.end) continue;
            next_tile += gridDim.x;
            return {true, group, local % m_tiles * Tile::M, m_size, local / m_tiles * Tile::N, rows.begin, rows.end};
        }
        return {};
    }
};

}  // namespace emo::gemm

// Grouped products forward: one matrix a group of rows.
//
// emo_grouped_gemm_forward   y_r = x_{gather r} w[g]^T (+ bias)                    for the rows r of group g
// emo_experts_in             pre_r = x_{token r} w[g]^T, activated_r = act(pre_r)   act(gate) * up where gated
//
// Layout: x [sources, inputs], w [groups, outputs, inputs], y [rows, outputs], all in T; both operands lie along the
// reduction. Gated, w holds gate rows then up rows, or the two of a unit side by side (`layout`), and pre likewise. Groups of
// any sizes, also none; any widths. _large and _small need every pointer and every row at multiples of 16 bytes, _scalar
// nothing. Grid: any number of blocks of 128 threads (persistent), dynamic shared memory STAGES (M + N) K sizeof(T).
//
// How: common/gemm/schedule.cuh finds tiles, load.cuh copies them (cp.async, rows picked as they are read), multiply.cuh
// feeds mma.sync (bf16; f32 as three tf32 products), persistent.cuh joins these and stages the outputs.
// The activation leaves with pre: reading pre again in the second product would cost 2h for its h of bytes at each of its
// column tiles, and the exponentials as often.
//
// Bytes, s = sizeof(T): floor (sources inputs + groups outputs inputs + rows outputs) s (activated: + rows hidden s);
// through L2, each tile reads (M + N) inputs s. FLOPs: 2 rows inputs outputs, at the floor but for the last tile of a group.
// Per tile, 128 threads, no spills on sm_80, sm_90a and sm_100a:
//   bf16 large  128 x 128 x 32, 4 stages  64 KiB  228 to 241 registers  2 blocks a multiprocessor
//   bf16 small   64 x 128 x 32, 4 stages  48 KiB  156 to 162 registers  3 blocks
//   f32  large  128 x  64 x 32, 3 stages  72 KiB  174 to 210 registers  2 blocks
//   f32  small   64 x  64 x 32, 3 stages  48 KiB  124 to 154 registers  3 blocks
// Known limits: 2^31 rows and 2^31 tiles; f32 infinities become NaN (inf - inf in the split); on Hopper and Blackwell
// mma.sync does not reach what wgmma and tcgen05 do.
#include "common/gated_row.cuh"
#include "common/gemm/kernel.cuh"

namespace emo::gemm {

template <class Tile_, bool VECTORS> struct Forward {
    using Tile = Tile_;
    using T = typename Tile::T;
    using Product = Multiply<Tile, Along::REDUCTION, Along::REDUCTION>;
    const EmoGroupedGemmForward &p;
    RowTiles<Tile> tiles;
    PanelAlongReduction<Tile, Tile::M, VECTORS> a;
    PanelAlongReduction<Tile, Tile::N, VECTORS> b;

    __device__ __forceinline__ Forward(const EmoGroupedGemmForward &p_) : p(p_), tiles(p_.outputs, p_.inputs) {}

    __device__ __forceinline__ Work next() { return tiles.next(p.groups, p.status); }

    __device__ __forceinline__ void begin(const Work &work) {
        begin_rows(a, work, p.x, p.inputs, p.status);
        const T *w = static_cast<const T *>(p.w) + size_t(work.group) * p.outputs * p.inputs;
        b.begin(w, p.inputs, [&](uint32_t line) { return work.n + line < p.outputs ? work.n + line : NO_ROW; });
    }

    __device__ __forceinline__ void copy(unsigned char *stage, uint32_t k) {
        a.copy(stage, k);
        b.copy(stage + Tile::A_BYTES, k);
    }

    __device__ __forceinline__ void finish(const Work &work, const Product &product, unsigned char *shared) {
        each_run<Tile, 1>(product, shared, [&](uint32_t line, uint32_t at, float (&run)[1][Tile::VECTOR]) {
            const uint32_t row = work.m + line, column = work.n + at;
            if (row >= work.m_end || column >= p.outputs) return;
            const uint32_t valid = present<Tile::VECTOR>(column, p.outputs);
            if (p.bias != nullptr) {
#pragma unroll
                for (int i = 0; i < Tile::VECTOR; ++i)
                    if (i < valid) run[0][i] += p.bias[column + i];
            }
            store_run<VECTORS>(static_cast<T *>(p.y) + size_t(row) * p.outputs + column, run[0], valid);
        });
    }
};

template <class Tile_, bool VECTORS> struct ExpertsIn {
    using Tile = Tile_;
    using T = typename Tile::T;
    using Product = Multiply<Tile, Along::REDUCTION, Along::REDUCTION>;
    const EmoExpertsIn &p;
    const uint32_t pre_width;
    RowTiles<Tile> tiles;
    PanelAlongReduction<Tile, Tile::M, VECTORS> a;
    PanelAlongReduction<Tile, Tile::N, VECTORS> b;

    __device__ __forceinline__ ExpertsIn(const EmoExpertsIn &p_)
        : p(p_), pre_width(p_.gated ? 2 * p_.hidden : p_.hidden), tiles(pre_width, p_.width) {}

    __device__ __forceinline__ Work next() { return tiles.next(p.groups, p.status); }

    // The weight row behind column `line` of the tile. Gated, each warp holds the gates of some units in the first half of
    // its columns and the other factors of the same units in the second.
    __device__ __forceinline__ uint32_t weight_row(const Work &work, uint32_t line) const {
        if (!p.gated) return work.n + line < p.hidden ? work.n + line : NO_ROW;
        constexpr uint32_t HALF = Tile::WARP_N / 2;
        const uint32_t unit = work.n / 2 + line / Tile::WARP_N * HALF + line % HALF;
        return unit < p.hidden ? gate_column(p.layout, p.hidden, unit, line % Tile::WARP_N >= HALF) : NO_ROW;
    }

    __device__ __forceinline__ void begin(const Work &work) {
        begin_rows(a, work, p.x, p.width, p.status);
        const T *w = static_cast<const T *>(p.w) + size_t(work.group) * pre_width * p.width;
        b.begin(w, p.width, [&](uint32_t line) { return weight_row(work, line); });
    }

    __device__ __forceinline__ void copy(unsigned char *stage, uint32_t k) {
        a.copy(stage, k);
        b.copy(stage + Tile::A_BYTES, k);
    }

    template <int PARTS> __device__ __forceinline__ void store(const Work &work, const Product &product, unsigned char *shared) {
        each_run<Tile, PARTS>(product, shared, [&](uint32_t line, uint32_t at, float (&run)[PARTS][Tile::VECTOR]) {
            const uint32_t row = work.m + line, unit = work.n / PARTS + at;
            if (row >= work.m_end || unit >= p.hidden) return;
            const uint32_t valid = present<Tile::VECTOR>(unit, p.hidden);
            T *pre = static_cast<T *>(p.pre) + size_t(row) * pre_width;
            if constexpr (PARTS == 2) {
                store_gated<VECTORS>(pre, p.layout, p.hidden, unit, run[0], run[1], valid);
            } else {
                store_run<VECTORS>(pre + unit, run[0], valid);
            }
            float activated[Tile::VECTOR];
#pragma unroll
            for (int i = 0; i < Tile::VECTOR; ++i) {
                // As the backward pass will see it: rounded to storage.
                const float value = activate(p.activation, widen(narrow<T>(run[0][i]))).value;
                activated[i] = PARTS == 2 ? value * widen(narrow<T>(run[PARTS - 1][i])) : value;
            }
            store_run<VECTORS>(static_cast<T *>(p.activated) + size_t(row) * p.hidden + unit, activated, valid);
        });
    }

    __device__ __forceinline__ void finish(const Work &work, const Product &product, unsigned char *shared) {
        if (p.gated) store<2>(work, product, shared);
        else store<1>(work, product, shared);
    }
};

}  // namespace emo::gemm

EMO_GEMM_KERNELS(emo_grouped_gemm_forward, emo::gemm::Forward, EmoGroupedGemmForward)
EMO_GEMM_KERNELS(emo_experts_in, emo::gemm::ExpertsIn, EmoExpertsIn)

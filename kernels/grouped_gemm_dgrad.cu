// Grouped products backward, to the rows.
//
// emo_grouped_gemm_dgrad   dx_r = dy_{gather r} w[g], or dx_r += that
// emo_experts_out_dgrad    da'_r = dy_{token r} w[g], with s = order[r], f and f' of the activation at gate_r:
//                          dweights[s] = <da'_r, act(pre_r)> in parts of 32 units, weighted_r = weights[s] act(pre_r),
//                          da_r = weights[s] da'_r + extra_r, dgate_r = da_r up_r f'_r, dup_r = da_r f_r
//
// Layout: as kernels/grouped_gemm_forward.cu; w lies across the reduction and is transposed on its way to the tensor cores
// (ldmatrix.trans; f32 by 32-bit loads, which the permutation of chunks keeps free of bank conflicts).
// The expert's output is never kept: <dy, y> = <dy W, act(pre)>. Each part of that sum has one owner; kernels/experts.cu adds
// them in ascending order. `weighted` is what the output projection's wgrad reads, so that it needs no weights.
//
// Bytes, s = sizeof(T): floor (sources outputs + groups outputs inputs + rows inputs) s; with the activation another
// rows pre s to read, rows (pre + hidden) s to write and rows hidden / 8 for the parts. FLOPs: 2 rows inputs outputs.
// Per tile, 128 threads, no spills on sm_80, sm_90a and sm_100a:
//   bf16 large  64 KiB  228 to 243 registers  2 blocks a multiprocessor      small  48 KiB  153 to 161 registers  3 blocks
//   f32  large  72 KiB  184 to 231 registers  2 blocks                       small  48 KiB  118 to 157 registers  3 blocks
// Known limits: as the forward kernels.
#include "common/gated_row.cuh"
#include "common/gemm/kernel.cuh"

namespace emo::gemm {

// dx_r = dy_r w[g]: the weight's rows are the reduction.
template <class Tile_, bool VECTORS> struct Dgrad {
    using Tile = Tile_;
    using T = typename Tile::T;
    using Product = Multiply<Tile, Along::REDUCTION, Along::EXTENT>;
    const EmoGroupedGemmDgrad &p;
    RowTiles<Tile> tiles;
    PanelAlongReduction<Tile, Tile::M, VECTORS> a;
    PanelAlongExtent<Tile, Tile::N, VECTORS, false> b;

    __device__ __forceinline__ Dgrad(const EmoGroupedGemmDgrad &p_) : p(p_), tiles(p_.inputs, p_.outputs) {}

    __device__ __forceinline__ Work next() { return tiles.next(p.groups, p.status); }

    __device__ __forceinline__ void begin(const Work &work) {
        begin_rows(a, work, p.dy, p.outputs, p.status);
        const T *w = static_cast<const T *>(p.w) + size_t(work.group) * p.outputs * p.inputs;
        b.begin(w, p.inputs, work.n, p.outputs);
    }

    __device__ __forceinline__ void copy(unsigned char *stage, uint32_t k) {
        a.copy(stage, k);
        b.copy(stage + Tile::A_BYTES, k);
    }

    __device__ __forceinline__ void finish(const Work &work, const Product &product, unsigned char *shared) {
        each_run<Tile, 1>(product, shared, [&](uint32_t line, uint32_t at, float (&run)[1][Tile::VECTOR]) {
            const uint32_t row = work.m + line, column = work.n + at;
            if (row >= work.m_end || column >= p.inputs) return;
            const uint32_t valid = present<Tile::VECTOR>(column, p.inputs);
            T *dx = static_cast<T *>(p.dx) + size_t(row) * p.inputs + column;
            if (p.accumulate) {
                float before[Tile::VECTOR];
                load_run<VECTORS>(dx, before, valid);
#pragma unroll
                for (int i = 0; i < Tile::VECTOR; ++i) run[0][i] += before[i];
            }
            store_run<VECTORS>(dx, run[0], valid);
        });
    }
};

// The output projection's dgrad, and the activation's gradient on its way out.
template <class Tile_, bool VECTORS> struct ExpertsOutDgrad {
    using Tile = Tile_;
    using T = typename Tile::T;
    using Product = Multiply<Tile, Along::REDUCTION, Along::EXTENT>;
    static constexpr int RUN_LENGTH = Tile::VECTOR;
    const EmoExpertsOutDgrad &p;
    RowTiles<Tile> tiles;
    PanelAlongReduction<Tile, Tile::M, VECTORS> a;
    PanelAlongExtent<Tile, Tile::N, VECTORS, false> b;

    __device__ __forceinline__ ExpertsOutDgrad(const EmoExpertsOutDgrad &p_) : p(p_), tiles(p_.hidden, p_.width) {}

    __device__ __forceinline__ Work next() { return tiles.next(p.groups, p.status); }

    __device__ __forceinline__ void begin(const Work &work) {
        begin_rows(a, work, p.dy, p.width, p.status);
        const T *w = static_cast<const T *>(p.w) + size_t(work.group) * p.width * p.hidden;
        b.begin(w, p.hidden, work.n, p.width);
    }

    __device__ __forceinline__ void copy(unsigned char *stage, uint32_t k) {
        a.copy(stage, k);
        b.copy(stage + Tile::A_BYTES, k);
    }

    // The weight of the row's slot; 0 where `order` points outside.
    __device__ __forceinline__ float weight_of(uint32_t row) const {
        const uint32_t slot = p.order[row];
        return below(p.status, p.order_site, row, slot, p.slots) ? p.weights[slot] : 0.0f;
    }

    // Stores dpre and the weighted activation of a run of units, and returns the run's share of the row's <da', a>.
    __device__ __forceinline__ float units(uint32_t row, uint32_t unit, const float (&da)[RUN_LENGTH]) const {
        const uint32_t valid = present<RUN_LENGTH>(unit, p.hidden), pre_width = p.gated ? 2 * p.hidden : p.hidden;
        const T *pre = static_cast<const T *>(p.pre) + size_t(row) * pre_width;
        T *dpre = static_cast<T *>(p.dpre) + size_t(row) * pre_width;
        T *hidden_row = static_cast<T *>(p.weighted) + size_t(row) * p.hidden + unit;
        float gate[RUN_LENGTH], up[RUN_LENGTH], extra[RUN_LENGTH], weighted[RUN_LENGTH];
        if (p.gated) load_gated<VECTORS>(pre, p.layout, p.hidden, unit, gate, up, valid);
        else load_run<VECTORS>(pre + unit, gate, valid);
        if (p.has_extra) load_run<VECTORS>(hidden_row, extra, valid);
        const float weight = weight_of(row);
        float dot = 0.0f;
#pragma unroll
        for (int i = 0; i < RUN_LENGTH; ++i) {
            const Activated f = activate(p.activation, gate[i]);
            const float total = weight * da[i] + (p.has_extra ? extra[i] : 0.0f);
            const float factor = p.gated ? up[i] : 1.0f, hidden = f.value * factor;
            if (i < valid) dot += da[i] * hidden;
            weighted[i] = weight * hidden;
            gate[i] = total * factor * f.slope;
            up[i] = total * f.value;
        }
        if (p.gated) store_gated<VECTORS>(dpre, p.layout, p.hidden, unit, gate, up, valid);
        else store_run<VECTORS>(dpre + unit, gate, valid);
        store_run<VECTORS>(hidden_row, weighted, valid);
        return dot;
    }

    __device__ __forceinline__ void finish(const Work &work, const Product &product, unsigned char *shared) {
        constexpr int LANES = EMO_EXPERTS_PART / RUN_LENGTH;  // that share a part of a row
        static_assert(Tile::WARP_N % EMO_EXPERTS_PART == 0, "whole parts");
        each_run<Tile, 1>(product, shared, [&](uint32_t line, uint32_t at, float (&run)[1][RUN_LENGTH]) {
            const uint32_t row = work.m + line, unit = work.n + at;
            const bool inside = row < work.m_end && unit < p.hidden;
            float dot = inside ? units(row, unit, run[0]) : 0.0f;
#pragma unroll
            for (int distance = LANES / 2; distance > 0; distance /= 2) dot += __shfl_xor_sync(ALL_LANES, dot, distance);
            if (inside && unit % EMO_EXPERTS_PART == 0) p.partials[size_t(row) * p.parts + unit / EMO_EXPERTS_PART] = dot;
        });
    }
};

}  // namespace emo::gemm

EMO_GEMM_KERNELS(emo_grouped_gemm_dgrad, emo::gemm::Dgrad, EmoGroupedGemmDgrad)
EMO_GEMM_KERNELS(emo_experts_out_dgrad, emo::gemm::ExpertsOutDgrad, EmoExpertsOutDgrad)

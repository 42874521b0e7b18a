// Grouped products backward, to the weights: dw[g] += sum over the rows r of group g of dy_r^T x_r, or dw[g] = that sum.
//
// Layout: as kernels/grouped_gemm_forward.cu; dw f32. Both operands lie across the reduction, which is a group's rows, each
// picked by an index where there is a gather; indices are fetched one stage ahead of the rows. A tile of dw has one owner,
// which sums the rows in ascending order; groups without rows have no tile and keep their dw.
//
// Bytes, s = sizeof(T): floor rows (inputs + outputs) s + 8 groups outputs inputs. FLOPs: 2 rows inputs outputs.
// Per tile, 128 threads, no spills on sm_80, sm_90a and sm_100a:
//   bf16 large  64 KiB  223 to 235 registers  2 blocks a multiprocessor      small  48 KiB  156 to 160 registers  3 blocks
//   f32  large  72 KiB  155 to 226 registers  2 blocks                       small  48 KiB  114 to 156 registers  3 blocks
// Known limits: as the forward kernels; a group's rows are not split between blocks (kernels/linear.cu sums the parts where
// the host splits the rows of a dense layer).
#include "common/gemm/kernel.cuh"
#include "common/run.cuh"

namespace emo::gemm {

template <class Tile_, bool VECTORS> struct Wgrad {
    using Tile = Tile_;
    using T = typename Tile::T;
    using Product = Multiply<Tile, Along::EXTENT, Along::EXTENT>;
    const EmoGroupedGemmWgrad &p;
    WeightTiles<Tile> tiles;
    PanelAlongExtent<Tile, Tile::M, VECTORS, true> a;
    PanelAlongExtent<Tile, Tile::N, VECTORS, true> b;

    __device__ __forceinline__ Wgrad(const EmoGroupedGemmWgrad &p_) : p(p_), tiles(p_.outputs, p_.inputs) {}

    __device__ __forceinline__ Work next() { return tiles.next(p.groups, p.status); }

    __device__ __forceinline__ void look_up(uint32_t k) {
        a.look_up(p.dy, k, p.status);
        b.look_up(p.x, k, p.status);
    }

    __device__ __forceinline__ void begin(const Work &work) {
        a.begin(static_cast<const T *>(p.dy.data), p.outputs, work.m, work.k_end);
        b.begin(static_cast<const T *>(p.x.data), p.inputs, work.n, work.k_end);
        look_up(work.k);
    }

    __device__ __forceinline__ void copy(unsigned char *stage, uint32_t k) {
        a.copy(stage, k);
        b.copy(stage + Tile::A_BYTES, k);
        look_up(k + Tile::K);
    }

    __device__ __forceinline__ void finish(const Work &work, const Product &product, unsigned char *shared) {
        each_run<Tile, 1>(product, shared, [&](uint32_t line, uint32_t at, float (&run)[1][Tile::VECTOR]) {
            const uint32_t row = work.m + line, column = work.n + at;
            if (row >= p.outputs || column >= p.inputs) return;
            const uint32_t valid = present<Tile::VECTOR>(column, p.inputs);
            float *dw = p.dw + (size_t(work.group) * p.outputs + row) * p.inputs + column;
            if (p.accumulate) {
                float before[Tile::VECTOR];
                load_run<VECTORS>(dw, before, valid);
#pragma unroll
                for (int i = 0; i < Tile::VECTOR; ++i) run[0][i] += before[i];
            }
            store_run<VECTORS>(dw, run[0], valid);
        });
    }
};

}  // namespace emo::gemm

EMO_GEMM_KERNELS(emo_grouped_gemm_wgrad, emo::gemm::Wgrad, EmoGroupedGemmWgrad)

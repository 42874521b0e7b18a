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

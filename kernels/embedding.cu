// Token embedding.
//
//   forward    y[t] = table[ids[t]]
//   backward   dtable[v] += sum of dy[t] over the tokens t with ids[t] = v, ascending; the padding id gets nothing
//
// Row-major, any width; 16-byte accesses where `wide` says so. Forward: a warp a row.
// Backward without sort, workspace or float atomics: every row of the table has one owner, block `id mod gridDim.x`. A
// block reads all ids in order, lists the tokens it owns, links each to the next one of the same id, and its threads,
// each with its own columns, walk the chains with the sum in registers. The order of additions is that of the CPU.
// Bytes: forward 2 rows width sizeof(T) + 4 rows, the floor. Backward reads dy once and reads and writes each table row
// that occurs once per EMO_EMBEDDING_LIST listed tokens: the floor, plus 4 rows x blocks of ids out of L2 (at most 1024
// x 4 bytes a token; 64 MB for 16384 tokens).
// FLOPs: rows width. Limits: a very frequent id is one block's work, with four rows of dy in flight a thread.
#include "common/gather.cuh"
#include "common/scan.cuh"
#include "include/embedding.h"

namespace emo {

template <class T> __device__ __forceinline__ void forward(const EmoEmbeddingForward &p) {
    gather_row<T, EMO_EMBEDDING_THREADS>(p.ids, static_cast<const T *>(p.table), static_cast<T *>(p.y), p.rows,
                                         p.vocabulary, p.width, p.wide, EMO_SITE_EMBEDDING_FORWARD_IDS, p.status);
}

constexpr uint32_t THREADS = EMO_EMBEDDING_THREADS;
constexpr uint32_t IDS = 4;  // ids a thread reads at a time

// Tokens of one block, in ascending order, and for each the place of the next one of the same id.
struct Listed {
    uint32_t token[EMO_EMBEDDING_LIST];
    uint32_t id[EMO_EMBEDDING_LIST];
    uint32_t next[EMO_EMBEDDING_LIST];
    uint32_t follows[EMO_EMBEDDING_LIST];  // whether an earlier one of the same id is listed
};

__device__ __forceinline__ void link(Listed &list, uint32_t count) {
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) list.follows[i] = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < count; i += THREADS) {
        const uint32_t id = list.id[i];
        uint32_t next = i + 1;
        while (next < count && list.id[next] != id) ++next;
        list.next[i] = next;
        if (next < count) list.follows[next] = 1;
    }
    __syncthreads();
}

// Teams of threads, as many as a row of columns needs, take the chains in turn.
template <class T, int N>
__device__ __forceinline__ void add_chains(const EmoEmbeddingBackward &p, const Listed &list, uint32_t count) {
    constexpr int DEPTH = 4;
    const uint32_t pieces = p.width / N, first = blockIdx.y * THREADS;
    const uint32_t size = min(THREADS, (pieces - first + WARP - 1) / WARP * WARP);
    const uint32_t teams = THREADS / size, team = threadIdx.x / size, piece = first + threadIdx.x % size;
    if (team >= teams || piece >= pieces) return;
    const T *const dy = static_cast<const T *>(p.dy) + size_t(piece) * N;
    for (uint32_t start = team; start < count; start += teams) {
        if (list.follows[start]) continue;
        float *const row = p.dtable + size_t(list.id[start]) * p.width + size_t(piece) * N;
        float sum[N];
        load(sum, row);
        for (uint32_t at = start; at < count;) {
            float x[DEPTH][N];
            bool more[DEPTH];
#pragma unroll
            for (int i = 0; i < DEPTH; ++i) {
                more[i] = at < count;
                if (more[i]) {
                    load(x[i], dy + size_t(list.token[at]) * p.width);
                    at = list.next[at];
                }
            }
#pragma unroll
            for (int i = 0; i < DEPTH; ++i) {
                if (!more[i]) continue;
#pragma unroll
                for (int column = 0; column < N; ++column) sum[column] += x[i][column];
            }
        }
        store(row, sum);
    }
}

template <class T> __device__ __forceinline__ void backward(const EmoEmbeddingBackward &p) {
    __shared__ Listed list;
    __shared__ uint32_t scratch[THREADS / WARP];
    uint32_t count = 0;
    for (uint32_t base = 0; base < p.rows; base += THREADS * IDS) {
        const uint32_t first = base + threadIdx.x * IDS;
        uint32_t ids[IDS], own = 0;
#pragma unroll
        for (uint32_t i = 0; i < IDS; ++i) {
            if (first + i >= p.rows) continue;
            ids[i] = p.ids[first + i];
            const bool mine = (ids[i] & (gridDim.x - 1)) == blockIdx.x && ids[i] != p.padding;
            if (mine && below(p.status, EMO_SITE_EMBEDDING_BACKWARD_IDS, first + i, ids[i], p.vocabulary)) {
                own |= 1u << i;
            }
        }
        uint32_t total;
        uint32_t at = count + block_exclusive<THREADS>(__popc(own), scratch, total);
#pragma unroll
        for (uint32_t i = 0; i < IDS; ++i) {
            if (own >> i & 1) {
                list.token[at] = first + i;
                list.id[at] = ids[i];
                ++at;
            }
        }
        count += total;
        if (count + THREADS * IDS > EMO_EMBEDDING_LIST || base + THREADS * IDS >= p.rows) {
            __syncthreads();
            link(list, count);
            if (p.wide) {
                add_chains<T, WIDE<T>>(p, list, count);
            } else {
                add_chains<T, 1>(p, list, count);
            }
            __syncthreads();
            count = 0;
        }
    }
}

}  // namespace emo

EMO_KERNEL_EACH_STORAGE(emo_embedding_forward, EMO_EMBEDDING_THREADS, EmoEmbeddingForward, emo::forward)
EMO_KERNEL_EACH_STORAGE(emo_embedding_backward, EMO_EMBEDDING_THREADS, EmoEmbeddingBackward, emo::backward)

/* Token embedding: see src/ops/embedding.rs. */
#ifndef EMO_EMBEDDING_H
#define EMO_EMBEDDING_H
#include "status.h"

enum EmoEmbeddingTile {
    EMO_EMBEDDING_THREADS = 256, /* forward: a warp a row */
    EMO_EMBEDDING_LIST = 2048,   /* tokens that a block of the backward pass collects */
    EMO_EMBEDDING_OWNERS = 1024  /* blocks that share the vocabulary, at most */
};

enum EmoEmbeddingSite {
    EMO_SITE_EMBEDDING_FORWARD_IDS = EMO_FAMILY_EMBEDDING * 256,
    EMO_SITE_EMBEDDING_BACKWARD_IDS
};

/* emo_embedding_forward_*. `wide`: the width and every pointer to rows are multiples of 16 bytes. */
struct EmoEmbeddingForward {
    const uint32_t *ids; /* [rows] */
    const void *table;   /* [vocabulary, width] */
    void *y;             /* [rows, width] */
    uint32_t rows;
    uint32_t vocabulary;
    uint32_t width;
    uint32_t wide;
    struct EmoStatus *status;
};

/* emo_embedding_backward_*: blockIdx.x, of a power of two, owns the ids equal to it modulo gridDim.x; blockIdx.y owns
 * EMO_EMBEDDING_THREADS pieces of the columns. */
struct EmoEmbeddingBackward {
    const uint32_t *ids; /* [rows], rows at most 2^31 */
    const void *dy;      /* [rows, width] */
    float *dtable;       /* [vocabulary, width] */
    uint32_t rows;
    uint32_t vocabulary;
    uint32_t width;
    uint32_t padding; /* an id without gradient; 0xffffffff: none */
    uint32_t wide;
    struct EmoStatus *status;
};
#endif

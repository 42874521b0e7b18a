/* Plan, dispatch, combine: src/ops/permutation.rs. Slot s = t * top_k + j, row = a slot's place in expert order. */
#ifndef EMO_PERMUTATION_H
#define EMO_PERMUTATION_H
#include "status.h"

enum EmoPermutationTile {
    EMO_PLAN_THREADS = 256,      /* of the counting and the placing kernel */
    EMO_PLAN_SCAN_THREADS = 1024,
    EMO_PLAN_BINS = 1152,        /* experts + 1 that several blocks can share */
    EMO_PLAN_SLOTS = 2048,       /* slots of a block, at least */
    EMO_PLAN_BLOCKS = 256,       /* blocks, at most */
    EMO_PLAN_CELLS = 65536,      /* (experts + 1) x blocks, at most */
    EMO_MOVE_THREADS = 256       /* of the kernels that move rows: a warp a row */
};

enum EmoPermutationSite {
    EMO_SITE_PLAN_INDICES = EMO_FAMILY_PERMUTATION * 256,
    EMO_SITE_DISPATCH_TOKEN,
    EMO_SITE_DISPATCH_BACKWARD_INVERSE,
    EMO_SITE_COMBINE_INVERSE,
    EMO_SITE_COMBINE_BACKWARD_INVERSE,
    EMO_SITE_COMBINE_BACKWARD_UNNAMED /* a row that no slot names, so that another is named twice */
};

/* emo_plan_count, emo_plan_scan, emo_plan_place, in this order; the first and last with `blocks` blocks. */
struct EmoPlan {
    const uint32_t *indices; /* [slots] */
    uint32_t *order;         /* [slots] */
    uint32_t *token;         /* [slots] */
    uint32_t *offsets;       /* [experts + 1] */
    uint32_t *inverse;       /* [slots] */
    uint32_t slots;          /* at most 2^31 */
    uint32_t top_k;
    uint32_t experts;
    uint32_t blocks; /* 1, or as many as leave each block more than `experts` slots */
    struct EmoStatus *status;
};

/* `wide`: the width and every pointer to rows are multiples of 16 bytes. */

/* emo_dispatch_forward_*: rows[r] = x[token[r]]. */
struct EmoDispatch {
    const uint32_t *token; /* [rows_len] */
    const void *x;         /* [tokens, width] */
    void *rows;            /* [rows_len, width] */
    uint32_t rows_len;
    uint32_t tokens;
    uint32_t width;
    uint32_t wide;
    struct EmoStatus *status;
};

/* emo_gather_sum_*: y[t] = sum_j weights[t, j] rows[inverse[t, j]]; combine, and the backward pass of dispatch. */
struct EmoGatherSum {
    const uint32_t *inverse; /* [tokens, top_k], below tokens * top_k */
    const float *weights;    /* [tokens, top_k]; null: 1 */
    const void *rows;        /* [tokens * top_k, width] */
    void *y;                 /* [tokens, width] */
    uint32_t tokens;
    uint32_t top_k;
    uint32_t width;
    uint32_t wide;
    uint32_t accumulate; /* add to y */
    uint32_t site;       /* EMO_SITE_COMBINE_INVERSE or EMO_SITE_DISPATCH_BACKWARD_INVERSE */
    struct EmoStatus *status;
};

/* emo_combine_mark, emo_combine_backward_rows_*, emo_combine_backward_weights_*, in this order. */
struct EmoCombineBackward {
    const uint32_t *inverse; /* [tokens, top_k] */
    const float *weights;    /* [tokens, top_k] */
    const void *rows;        /* [tokens * top_k, width] */
    const void *dy;          /* [tokens, width] */
    void *drows;             /* [tokens * top_k, width] */
    float *dweights;         /* [tokens, top_k]; all bits zero before the first kernel */
    uint32_t tokens;
    uint32_t top_k;
    uint32_t width;
    uint32_t wide;
    struct EmoStatus *status;
};
#endif

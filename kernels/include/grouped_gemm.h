/* Grouped matrix products: what host and device agree on. */
#ifndef EMO_GROUPED_GEMM_H
#define EMO_GROUPED_GEMM_H
#include "activation.h"
#include "status.h"
#include <stdint.h>

/* The tiles of the output that a block owns. "Small" is for groups of few rows, and for what 16-byte copies cannot read. */
enum EmoGemmTile {
    EMO_GEMM_THREADS = 128,
    EMO_GEMM_DEPTH = 32, /* reduction elements a pipeline stage */
    EMO_GEMM_LARGE_M = 128,
    EMO_GEMM_SMALL_M = 64,
    EMO_GEMM_N_BF16 = 128,
    EMO_GEMM_N_F32 = 64,
    EMO_GEMM_WARPS_N_LARGE = 2,
    EMO_GEMM_WARPS_N_SMALL_BF16 = 4,
    EMO_GEMM_WARPS_N_SMALL_F32 = 2,
    EMO_GEMM_STAGES_BF16 = 4,
    EMO_GEMM_STAGES_F32 = 3,
    EMO_GEMM_BLOCKS_LARGE = 2, /* resident blocks a multiprocessor that registers and shared memory allow */
    EMO_GEMM_BLOCKS_SMALL = 3,
    EMO_EXPERTS_PART = 32,    /* units that a part of a row's dweight sums over */
    EMO_EXPERTS_THREADS = 128 /* rows a block of the sum over these parts */
};

/* The index arguments, for reports. */
enum EmoGemmSite {
    EMO_SITE_GROUPED_GEMM_FORWARD_OFFSETS = EMO_FAMILY_GEMM * 256 + 1,
    EMO_SITE_GROUPED_GEMM_FORWARD_GATHER,
    EMO_SITE_GROUPED_GEMM_DGRAD_OFFSETS,
    EMO_SITE_GROUPED_GEMM_DGRAD_GATHER,
    EMO_SITE_GROUPED_GEMM_WGRAD_OFFSETS,
    EMO_SITE_GROUPED_GEMM_WGRAD_X_GATHER,
    EMO_SITE_GROUPED_GEMM_WGRAD_DY_GATHER,
    EMO_SITE_EXPERTS_FORWARD_OFFSETS,
    EMO_SITE_EXPERTS_FORWARD_TOKEN,
    EMO_SITE_EXPERTS_BACKWARD_OFFSETS,
    EMO_SITE_EXPERTS_BACKWARD_TOKEN,
    EMO_SITE_EXPERTS_BACKWARD_ORDER
};

/* Group g owns rows offsets[g]..offsets[g + 1]; without offsets, rows g group_rows..min((g + 1) group_rows, rows). */
struct EmoGroups {
    const uint32_t *offsets; /* [count + 1] or null */
    uint32_t count;
    uint32_t rows;
    uint32_t group_rows;
    uint32_t site;
};

/* The rows of an operand: row r is row gather[r] of data, or row r without gather. */
struct EmoRows {
    const void *data;
    const uint32_t *gather; /* [rows] or null */
    uint32_t sources;       /* rows that data has */
    uint32_t site;
};

/* y_r = x_r w[g]^T (+ bias), for the rows r of group g. */
struct EmoGroupedGemmForward {
    struct EmoGroups groups;
    struct EmoRows x;  /* [.., inputs] */
    const void *w;     /* [groups, outputs, inputs] */
    const float *bias; /* [outputs] or null */
    void *y;           /* [rows, outputs] */
    uint32_t inputs;
    uint32_t outputs;
    struct EmoStatus *status;
};

/* pre_r = x_r w[g]^T and hidden_r = act(pre_r). */
struct EmoExpertsIn {
    struct EmoGroups groups;
    struct EmoRows x; /* [.., width] */
    const void *w;    /* [groups, 2 hidden | hidden, width] */
    void *pre;        /* [rows, 2 hidden | hidden] */
    void *activated;  /* [rows, hidden] */
    uint32_t width;
    uint32_t hidden;
    uint32_t gated;
    uint32_t layout;
    uint32_t activation;
    struct EmoStatus *status;
};

/* dx_r = dy_r w[g], or dx_r += dy_r w[g]. */
struct EmoGroupedGemmDgrad {
    struct EmoGroups groups;
    struct EmoRows dy; /* [.., outputs] */
    const void *w;     /* [groups, outputs, inputs] */
    void *dx;          /* [rows, inputs] */
    uint32_t inputs;
    uint32_t outputs;
    uint32_t accumulate;
    struct EmoStatus *status;
};

/* With da'_r = dy_r w[g] and a_r = act(pre_r): the row's dweight <da'_r, a_r> in parts, weight_r a_r, and
   dpre_r = (weight_r da'_r + extra_r) act'(pre_r), where extra_r waits where weight_r a_r will be. */
struct EmoExpertsOutDgrad {
    struct EmoGroups groups;
    struct EmoRows dy;     /* [.., width] */
    const void *w;         /* [groups, width, hidden] */
    const void *pre;       /* [rows, 2 hidden | hidden] */
    const uint32_t *order; /* slot of each row, [rows] */
    const float *weights;  /* [slots] */
    void *dpre;            /* [rows, 2 hidden | hidden] */
    void *weighted;        /* [rows, hidden] */
    float *partials;       /* [rows, parts], parts = ceil(hidden / EMO_EXPERTS_PART) */
    float *dweights;       /* [slots] */
    uint32_t slots;
    uint32_t order_site;
    uint32_t parts;
    uint32_t width;
    uint32_t hidden;
    uint32_t gated;
    uint32_t layout;
    uint32_t activation;
    uint32_t has_extra;
    struct EmoStatus *status;
};

/* dw[g] += sum over the rows r of group g of dy_r^T x_r, or dw[g] = that sum. */
struct EmoGroupedGemmWgrad {
    struct EmoGroups groups;
    struct EmoRows x;  /* [.., inputs] */
    struct EmoRows dy; /* [.., outputs] */
    float *dw;         /* [groups, outputs, inputs] */
    uint32_t inputs;
    uint32_t outputs;
    uint32_t accumulate;
    struct EmoStatus *status;
};
#endif

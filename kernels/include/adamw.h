/* AdamW and the sum of squares: see src/ops/adamw.rs. */
#ifndef EMO_ADAMW_H
#define EMO_ADAMW_H
#include <stdint.h>

enum EmoAdamwTile {
    EMO_ADAMW_THREADS = 256,
    EMO_ADAMW_ELEMENTS = 8, /* elements a thread */
    EMO_SQUARES_THREADS = 512,
    EMO_SQUARES_PARTS = 2048, /* partial sums, at most */
    EMO_SQUARES_PART = 8192  /* elements of a part, a multiple of this many */
};

/* emo_adamw_*, named after the type of `copy`. `wide`: every pointer is a multiple of 16 bytes. */
struct EmoAdamw {
    float *params;
    const float *grads;
    float *m;
    float *v;
    void *copy; /* the new parameters as stored; null: not wanted */
    uint64_t len;
    float grad_scale;
    float beta1;
    float rest1; /* 1 - beta1 */
    float beta2;
    float rest2; /* 1 - beta2 */
    float eps;
    float decay;      /* -lr weight_decay */
    float lr;         /* -lr / (1 - beta1^t) */
    float correction; /* 1 / sqrt(1 - beta2^t) */
    uint32_t wide;
};

/* emo_squares_parts with `parts` blocks, then emo_squares_sum with one. `wide`: x is a multiple of 16 bytes. */
struct EmoSquares {
    const float *x;
    double *partial; /* [parts] */
    double *out;     /* [1] */
    uint64_t len;
    uint64_t part; /* elements of a part */
    uint32_t parts;
    uint32_t wide;
};
#endif

/* Cross-entropy with z-loss: see src/ops/cross_entropy.rs. */
#ifndef EMO_CROSS_ENTROPY_H
#define EMO_CROSS_ENTROPY_H
#include "status.h"

enum EmoCrossEntropyTile { EMO_CROSS_ENTROPY_THREADS = 512 /* a block a row */ };

enum EmoCrossEntropySite { EMO_SITE_CROSS_ENTROPY_TARGETS = EMO_FAMILY_CROSS_ENTROPY * 256 };

/* emo_cross_entropy_*: one block a row, with 16 x `cached` bytes of dynamic shared memory. */
struct EmoCrossEntropy {
    const int32_t *targets; /* [rows]: below vocabulary, or `ignore` */
    void *logits;           /* [rows, vocabulary] */
    float *loss;            /* [rows] */
    float *lse;             /* [rows] */
    uint32_t vocabulary;
    int32_t ignore;
    float scale;
    float z_factor; /* 2 * z_weight */
    uint32_t backward;
    uint32_t cached; /* pieces of 16 bytes that stay in shared memory between the two passes */
    struct EmoStatus *status;
};
#endif

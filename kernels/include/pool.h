/* Document pools. */
#ifndef EMO_POOL_H
#define EMO_POOL_H
#include "smoothing.h"
#include "status.h"

enum {
    EMO_POOL_MAX_ROUTED = 1024,
    EMO_POOL_THREADS = 256,
    EMO_SITE_POOL_OFFSETS = EMO_FAMILY_POOL * 256 + 1
};

struct EmoPool {
    struct EmoSmoothing smoothing; /* x null: none; else its y are the logits */
    const float *logits;     /* [tokens, experts] */
    const float *bias;       /* [experts] or null */
    const uint32_t *offsets; /* [segments + 1] */
    const uint32_t *sizes;   /* [segments] */
    double *partial;         /* [blocks of tokens, 2, routed]: see kernels/pool.cu */
    uint8_t *keep;           /* [segments, routed] */
    float *scores;           /* [segments, routed] */
    float *entropy;          /* [segments] or null */
    double temperature;
    uint32_t tokens;
    uint32_t experts;
    uint32_t routed;
    uint32_t forced;
    uint32_t segments;
    uint32_t block;          /* tokens of a block */
    struct EmoStatus *status;
};

/* sizes[i] = the pool size drawn for documents[i]. */
struct EmoPoolSizes {
    uint64_t seed;
    uint64_t step;
    const uint64_t *documents; /* [count] */
    uint32_t *sizes;           /* [count] */
    uint32_t layer;
    uint32_t min;
    uint32_t max;
    uint32_t count;
};
#endif

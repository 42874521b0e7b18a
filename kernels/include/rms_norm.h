/* RMSNorm: see src/ops/rms_norm.rs for the formulas. */
#ifndef EMO_RMS_NORM_H
#define EMO_RMS_NORM_H
#include <stdint.h>

enum EmoRmsNormTile {
    EMO_RMS_NORM_THREADS = 256,
    EMO_RMS_NORM_VECTORS = 8,  /* vectors a block: a warp each */
    EMO_RMS_NORM_COLUMNS = 32, /* columns a block of the weight's gradient */
    EMO_RMS_NORM_PARTS = 128,  /* the weight's gradient is summed in at most this many parts of the vectors */
    EMO_RMS_NORM_PART = 32     /* at least this many vectors a part */
};

/* `wide`: width, stride and every pointer are multiples of 16 bytes. */
struct EmoRmsNormForward {
    const void *x;
    const float *weight;
    void *y;
    float *rstd;
    uint32_t vectors; /* rows * groups */
    uint32_t groups;
    uint32_t width;
    uint32_t stride;
    float eps;
    uint32_t wide;
};

struct EmoRmsNormBackward {
    const void *x;
    const float *weight;
    const float *rstd;
    const void *dy;
    void *dx;
    float *dweight;
    float *parts; /* parts * width */
    uint32_t vectors;
    uint32_t groups;
    uint32_t width;
    uint32_t stride;
    uint32_t part; /* vectors a part */
    uint32_t accumulate;
    uint32_t wide;
};
#endif

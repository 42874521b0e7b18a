/* Smoothing over the tokens of a document. */
#ifndef EMO_SMOOTHING_H
#define EMO_SMOOTHING_H
#include <stdint.h>

enum {
    EMO_SMOOTHING_THREADS = 256,
    /* A block's tile. */
    EMO_SMOOTHING_TOKENS = 64,
    EMO_SMOOTHING_CHANNELS = 32,
    EMO_SMOOTHING_MAX_WIDTH = 9,
    /* Most blocks along the tokens that leave partial sums for the taps. */
    EMO_SMOOTHING_PARTS = 128
};

struct EmoSmoothing {
    const float *x;           /* [tokens, channels] */
    const float *taps;        /* [width] or, depthwise, [channels, width] */
    const uint32_t *of_token; /* [tokens] */
    float *y;                 /* forward: [tokens, channels] */
    const float *dy;          /* backward: [tokens, channels] */
    float *dx;                /* backward: [tokens, channels] */
    double *partial;          /* backward: [blocks along tokens, channels, width] or, with shared taps, [all blocks, width]; or null */
    uint32_t tokens;
    uint32_t channels;
    uint32_t width;
    uint32_t ahead;
    uint32_t depthwise;
    uint32_t renormalise;
    uint32_t tiles;           /* backward: token tiles of a block */
};
#endif

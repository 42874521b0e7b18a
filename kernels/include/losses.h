/* Losses on routing. */
#ifndef EMO_LOSSES_H
#define EMO_LOSSES_H
#include "status.h"

enum {
    EMO_LOSS_THREADS = 256,
    EMO_LOSS_WARPS = 8,
    /* Most blocks of consecutive tokens, each of which leaves one partial loss. */
    EMO_LOSS_PARTS = 256,
    EMO_REDUNDANCY_MAX_TOP_K = 64,
    EMO_SITE_LOSS_OFFSETS = EMO_FAMILY_LOSSES * 256 + 1,
    EMO_SITE_LOSS_SEGMENT = EMO_FAMILY_LOSSES * 256 + 2,
    EMO_SITE_LOSS_DOMAIN = EMO_FAMILY_LOSSES * 256 + 3,
    EMO_SITE_LOSS_INVERSE = EMO_FAMILY_LOSSES * 256 + 4,
    EMO_SITE_LOSS_TWICE = EMO_FAMILY_LOSSES * 256 + 5 /* a row that two slots name */
};

/* Scores and their gradient, cut into blocks of tokens. */
struct EmoScores {
    const float *probs;   /* [tokens, routed] */
    float *dprobs;        /* [tokens, routed] */
    const uint8_t *valid; /* [tokens] or null */
    uint32_t tokens;
    uint32_t routed;
    uint32_t block;       /* tokens of a block */
    uint32_t blocks;
};

struct EmoLoadBalance {
    struct EmoScores scores;
    const float *counts;  /* [routed] */
    double coefficient;
    double *partial;      /* [blocks] */
};

struct EmoMutualInformation {
    struct EmoScores scores;
    double token_weight;
    double marginal_weight;
    double *sums;         /* [blocks, routed + 1]: column sums over valid tokens, and their number */
    double *slopes;       /* [routed]: gradient through the mean scores */
    double *partial;      /* [blocks + routed] */
};

struct EmoSequenceConsistency {
    struct EmoScores scores;
    const uint32_t *of_token; /* [tokens] */
    double coefficient;
    double *pairs;            /* [blocks] */
    double *partial;          /* [blocks] */
};

struct EmoDomainConsistency {
    struct EmoScores scores;
    const uint32_t *offsets;  /* [segments + 1] */
    const uint32_t *of_token; /* [tokens] */
    const uint32_t *domain;   /* [segments] */
    float *means;             /* [segments + domains, routed] */
    double *crossing;         /* [blocks, 2, routed]: see kernels/common/segment_sum.cuh */
    double *partial;          /* [blocks] */
    double coefficient;
    uint32_t segments;
    uint32_t domains;
    struct EmoStatus *status;
};

struct EmoRedundancy {
    const uint32_t *inverse;  /* [tokens, top_k] */
    const void *rows;         /* [tokens * top_k, width] */
    void *drows;              /* [tokens * top_k, width] */
    double factor;            /* coefficient over the number of pairs; 0 without pairs */
    double *partial;          /* [blocks] */
    uint32_t *marks;          /* [1 + tokens * top_k / 32, rounded up], zeros: 1 where something is wrong, then a bit a row */
    uint32_t tokens;
    uint32_t top_k;
    uint32_t routed_k;
    uint32_t width;
    uint32_t block;           /* tokens of a block */
    struct EmoStatus *status;
};
#endif

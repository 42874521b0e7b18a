/* The router's linear layer. */
#ifndef EMO_ROUTER_LOGITS_H
#define EMO_ROUTER_LOGITS_H
#include <stdint.h>

enum {
    /* Forward: a block's tile of logits. */
    EMO_LOGITS_THREADS = 128,
    EMO_LOGITS_TOKENS = 64,
    EMO_LOGITS_EXPERTS = 32,
    /* Backward: a block's tile of a gradient, and how many groups of threads share its depth. */
    EMO_LOGITS_ROWS = 32,
    EMO_LOGITS_COLUMNS = 64,
    EMO_LOGITS_GROUP = 128,
    EMO_LOGITS_WEIGHT_GROUPS = 4
};

struct EmoRouterLogits {
    const void *x;        /* [tokens, width] */
    const float *w;       /* [experts, width] */
    float *logits;        /* forward: [tokens, experts] */
    const float *dlogits; /* backward: [tokens, experts] */
    void *dx;             /* backward: [tokens, width], added to */
    float *dw;            /* backward: [experts, width], added to */
    uint32_t tokens;
    uint32_t width;
    uint32_t experts;
};
#endif

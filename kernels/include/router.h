/* The fused router. */
#ifndef EMO_ROUTER_H
#define EMO_ROUTER_H
#include "smoothing.h"
#include "status.h"

enum {
    /* An expert's score stays in a register of one lane: at most 32 a lane. */
    EMO_ROUTER_MAX_EXPERTS = 1024,
    /* A slot is a lane. */
    EMO_ROUTER_MAX_TOP_K = 32,
    /* Threads of a block; a token is a warp. */
    EMO_ROUTER_THREADS = 256,
    EMO_ROUTER_WARPS = 8,
    /* Forward: consecutive tokens of a block. */
    EMO_ROUTER_TOKENS = 32,
    /* Most blocks of the backward pass, each of which leaves one row of partial sums for the bias. */
    EMO_ROUTER_PARTS = 256,
    EMO_SITE_ROUTER_SEGMENT = EMO_FAMILY_ROUTER * 256 + 1,
    EMO_SITE_ROUTER_BACKWARD_SEGMENT = EMO_FAMILY_ROUTER * 256 + 2,
    EMO_SITE_ROUTER_INDICES = EMO_FAMILY_ROUTER * 256 + 3
};

/* The inputs that both passes read. */
struct EmoRouterInputs {
    const float *logits;          /* [tokens, experts] */
    const float *bias;            /* [experts] or null */
    const uint8_t *keep;          /* [tokens or segments, routed] or null */
    const uint32_t *of_token;     /* [tokens]; null: a row of `keep` is a token's */
    uint32_t segments;
    uint32_t segment_site;        /* what a segment that does not exist is reported as */
    uint32_t tokens;
    uint32_t experts;
    uint32_t routed;
    uint32_t top_k;
    uint32_t sigmoid;             /* 0 softmax, 1 sigmoid */
    uint32_t shared_softmax;      /* 0 weight 1, 1 softmax over the shared experts */
    double temperature;
    double norm_power;            /* 0: weights are the scores; else the p of the L_p norm that divides them */
};

struct EmoRouterForward {
    struct EmoRouterInputs inputs;
    struct EmoSmoothing smoothing; /* x null: none; else its y are the inputs' logits */
    const float *selection_bias;  /* [routed] or null */
    float *probs;                 /* [tokens, routed] */
    float *weights;               /* [tokens, top_k] */
    uint32_t *indices;            /* [tokens, top_k] */
    uint32_t *counts;             /* [experts], zeroed before the launch */
    float *lse;                   /* [tokens] */
    uint32_t always;              /* how many of always_active there are */
    uint32_t always_active[EMO_ROUTER_MAX_TOP_K];
    struct EmoStatus *status;
};

struct EmoRouterBackward {
    struct EmoRouterInputs inputs;
    const float *probs;           /* [tokens, routed] */
    const float *weights;         /* [tokens, top_k] */
    const uint32_t *indices;      /* [tokens, top_k] */
    const float *lse;             /* [tokens] */
    const float *dweights;        /* [tokens, top_k] */
    const float *dprobs;          /* [tokens, routed] or null */
    double z_coefficient;
    float *dlogits;               /* [tokens, experts] */
    double *partial;              /* [blocks, experts]: sums of dlogits over a block's tokens; null: not asked for */
    uint32_t tokens_per_block;
    struct EmoStatus *status;
};
#endif

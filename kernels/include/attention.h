/* Attention: launch parameters and the tiles of every entry point, `emo_attention_<pass>_<width>_<storage>`. */
#ifndef EMO_ATTENTION_H
#define EMO_ATTENTION_H
#include "status.h"

/* A head of up to `width` elements is computed as one of `width`, filled up with zeros in shared memory.
   `owned` are the tokens a block produces results for, `tiles` how many tiles of 16 of them a warp has, `streamed` the
   tokens of one step of its loop, `blocks` how many blocks a multiprocessor's registers must hold at once.
   X(pass, storage, bytes of an element, width, owned, tiles, streamed, blocks) */
#define EMO_ATTENTION_EACH_FORWARD(X)      \
    X(FORWARD, F32, 4, 32, 64, 1, 32, 3)      \
    X(FORWARD, F32, 4, 64, 64, 1, 32, 3)      \
    X(FORWARD, F32, 4, 128, 64, 1, 32, 2)     \
    X(FORWARD, F32, 4, 256, 64, 1, 8, 2)      \
    X(FORWARD, BF16, 2, 32, 128, 2, 32, 3)    \
    X(FORWARD, BF16, 2, 64, 128, 2, 64, 2)    \
    X(FORWARD, BF16, 2, 128, 128, 2, 32, 2)   \
    X(FORWARD, BF16, 2, 256, 64, 1, 32, 2)
#define EMO_ATTENTION_EACH_DQ(X)           \
    X(DQ, F32, 4, 32, 64, 1, 32, 3)           \
    X(DQ, F32, 4, 64, 64, 1, 32, 2)           \
    X(DQ, F32, 4, 128, 64, 1, 8, 2)           \
    X(DQ, F32, 4, 256, 32, 1, 8, 2)           \
    X(DQ, BF16, 2, 32, 128, 2, 32, 3)         \
    X(DQ, BF16, 2, 64, 128, 2, 32, 2)         \
    X(DQ, BF16, 2, 128, 64, 1, 32, 2)         \
    X(DQ, BF16, 2, 256, 64, 1, 16, 2)
#define EMO_ATTENTION_EACH_DKV(X)          \
    X(DKV, F32, 4, 32, 64, 1, 32, 2)          \
    X(DKV, F32, 4, 64, 64, 1, 32, 2)          \
    X(DKV, F32, 4, 128, 64, 1, 8, 2)          \
    X(DKV, F32, 4, 256, 32, 1, 8, 2)          \
    X(DKV, BF16, 2, 32, 128, 2, 32, 2)        \
    X(DKV, BF16, 2, 64, 128, 2, 16, 2)        \
    X(DKV, BF16, 2, 128, 64, 1, 32, 2)        \
    X(DKV, BF16, 2, 256, 64, 1, 16, 2)

/* Bytes of a row in shared memory: whole swizzle periods of 128. */
#define EMO_ATTENTION_ROW_BYTES(bytes, width) ((bytes) * (width) < 128 ? 128 : (bytes) * (width))
/* Dynamic shared memory: the owned tiles, then a ring of streamed tiles, then 32-bit words that belong to tokens. */
#define EMO_ATTENTION_FORWARD_BYTES(row, owned, streamed) (((owned) + 3 * (streamed)) * (row) + 4 * (owned))
#define EMO_ATTENTION_DQ_BYTES(row, owned, streamed) ((2 * (owned) + 4 * (streamed)) * (row) + 4 * (owned))
#define EMO_ATTENTION_DKV_BYTES(row, owned, streamed) ((2 * (owned) + 4 * (streamed)) * (row) + 24 * (streamed))

/* For the host, a tile in one number: owned, warps of a block << 8, dynamic shared memory / 16 << 16. */
#define EMO_ATTENTION_TILE(pass, storage, bytes, width, owned, tiles, streamed, blocks)                             \
    EMO_ATTENTION_##pass##_##width##_##storage =                                                                    \
        (owned) + ((owned) / (16 * (tiles)) << 8) +                                                                 \
        (EMO_ATTENTION_##pass##_BYTES(EMO_ATTENTION_ROW_BYTES(bytes, width), owned, streamed) / 16 << 16),
enum EmoAttentionTile {
    EMO_ATTENTION_EACH_FORWARD(EMO_ATTENTION_TILE)
    EMO_ATTENTION_EACH_DQ(EMO_ATTENTION_TILE)
    EMO_ATTENTION_EACH_DKV(EMO_ATTENTION_TILE)
    /* Threads of a block of `emo_attention_delta_<storage>`, and how many of them share one token's head. */
    EMO_ATTENTION_DELTA_THREADS = 256,
    EMO_ATTENTION_DELTA_LANES = 8
};

enum EmoAttentionSite {
    EMO_ATTENTION_OF_TOKEN = EMO_FAMILY_ATTENTION * 256 + 1, /* segments.of_token names no segment */
    EMO_ATTENTION_OFFSETS = EMO_FAMILY_ATTENTION * 256 + 2,  /* segments.offsets: a start behind a token, an end behind all */
    EMO_ATTENTION_END = EMO_FAMILY_ATTENTION * 256 + 3       /* a token lies behind the end of its segment */
};

/* What the passes agree on. */
struct EmoAttentionShape {
    const uint32_t *offsets;  /* [segments + 1] */
    const uint32_t *of_token; /* [tokens] */
    uint32_t tokens;
    uint32_t segments;
    uint32_t heads;
    uint32_t kv_heads; /* divides heads */
    uint32_t head_dim;
    float scale;      /* multiplies q . k */
    uint32_t wide;    /* 1 where every pointer and every head begins at a multiple of 16 bytes */
    struct EmoStatus *status;
};

struct EmoAttentionForward {
    struct EmoAttentionShape shape;
    const void *qkv; /* storage [tokens, (heads + 2 kv_heads) head_dim] */
    void *out;       /* storage [tokens, heads head_dim] */
    float *lse;      /* [tokens, heads] */
};

/* All three backward passes. */
struct EmoAttentionBackward {
    struct EmoAttentionShape shape;
    const void *qkv;
    const void *out;
    const float *lse;
    const void *dout;
    void *dqkv;
    float *delta;     /* [tokens, heads]: sum of dout * out over a head */
    uint32_t *starts; /* [tokens]: where each token's segment begins */
};
#endif

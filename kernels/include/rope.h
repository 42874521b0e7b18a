/* Rotary position embedding: see src/ops/rope.rs. */
#ifndef EMO_ROPE_H
#define EMO_ROPE_H
#include "status.h"

enum EmoRopeTile { EMO_ROPE_THREADS = 256 /* a warp a row */ };

enum EmoRopeSite { EMO_SITE_ROPE_POSITION = EMO_FAMILY_ROPE * 256 };

/* `wide`: half a head, the stride and every pointer are multiples of 16 bytes. */
struct EmoRope {
    const uint32_t *position; /* [rows] */
    const float *cos;         /* [positions, half] */
    const float *sin;         /* [positions, half] */
    void *x;                  /* rows `stride` apart */
    uint32_t rows;
    uint32_t heads;
    uint32_t half; /* half the elements of a head */
    uint32_t stride;
    uint32_t positions;
    uint32_t inverse;
    uint32_t wide;
    struct EmoStatus *status;
};
#endif

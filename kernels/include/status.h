/* What a kernel found wrong with its inputs: read by the host when it next waits for the stream. */
#ifndef EMO_STATUS_H
#define EMO_STATUS_H
#include <stdint.h>

/* All zero: nothing is wrong. The first report stays, later ones are dropped. */
struct EmoStatus {
    uint32_t site;     /* which argument of which op: an EMO_SITE_* of the op's header */
    uint32_t position; /* where in the index buffer */
    uint32_t bound;    /* the exclusive upper bound */
    uint32_t found;    /* the value found */
};

/* A site is a family's number times 256 plus the argument's number. */
enum EmoFamily {
    EMO_FAMILY_ROUTER = 1,
    EMO_FAMILY_POOL = 2,
    EMO_FAMILY_SMOOTHING = 3,
    EMO_FAMILY_LOSSES = 4,
    EMO_FAMILY_PERMUTATION = 5,
    EMO_FAMILY_GEMM = 6,
    EMO_FAMILY_ATTENTION = 7,
    EMO_FAMILY_EMBEDDING = 8,
    EMO_FAMILY_CROSS_ENTROPY = 9,
    EMO_FAMILY_ROPE = 10,
    EMO_FAMILY_ALL_TO_ALL = 11
};
#endif

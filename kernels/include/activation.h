/* Activations: what host and device agree on. */
#ifndef EMO_ACTIVATION_H
#define EMO_ACTIVATION_H
#include <stdint.h>

/* The non-linearity, in the order of `ops::activation::Activation`. */
enum EmoActivation {
    EMO_ACTIVATION_SILU = 0,
    EMO_ACTIVATION_GELU = 1,
    EMO_ACTIVATION_GELU_TANH = 2,
    EMO_ACTIVATION_RELU = 3,
    EMO_ACTIVATION_RELU_SQUARED = 4
};

/* How a gated row holds its two halves: [gate: width | up: width], or gate and up of one unit side by side. */
enum EmoGateLayout { EMO_GATE_CONCATENATED = 0, EMO_GATE_INTERLEAVED = 1 };

enum { EMO_ACTIVATION_THREADS = 256 };

/* forward: out = f(gate) * up, or f(pre). backward: out = dpre from dout. A thread owns one run of units: 16 bytes of them
   where `wide`, else one. */
struct EmoActivationRows {
    const void *pre;  /* [rows, 2 width] gated, else [rows, width] */
    const void *dout; /* [rows, width], backward only */
    void *out;        /* [rows, width] forward, like pre backward */
    uint32_t runs;
    uint32_t width;
    uint32_t gated;
    uint32_t layout;
    uint32_t activation;
    uint32_t wide; /* pointers and rows are multiples of 16 bytes */
};

/* forward: y = min(max(x, -limit), limit). backward: y = 0 where |x| > limit, in place. A thread owns 16 bytes, or one
   element where the pointers are not multiples of 16 bytes. */
struct EmoClamp {
    const void *x;
    void *y;
    uint64_t len;
    float limit;
    uint32_t wide;
};
#endif

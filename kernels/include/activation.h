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

/* Threads of a block of the element-wise kernels, and columns of a row that one block covers. */
enum { EMO_ACTIVATION_THREADS = 256 };

/* out = f(gate) * up, or f(pre); backward: dpre from dout. */
struct EmoActivationParams {
    const void *pre;  /* [rows, 2 width] gated, else [rows, width] */
    const void *dout; /* [rows, width], backward only */
    void *out;        /* [rows, width] forward, [rows, pre] backward */
    uint64_t elements; /* rows * width */
    uint32_t width;
    uint32_t gated;
    uint32_t layout;
    uint32_t activation;
};

/* y = clamp(x, -limit, limit); backward: y = dy where |x| <= limit, else 0, in place. */
struct EmoClampParams {
    const void *x;
    void *y;
    uint64_t elements;
    float limit;
};
#endif

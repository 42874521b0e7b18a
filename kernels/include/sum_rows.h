/* The second stage of sums over tokens. */
#ifndef EMO_SUM_ROWS_H
#define EMO_SUM_ROWS_H
#include <stdint.h>

enum {
    EMO_SUM_ROWS_THREADS = 256,
    /* Columns of a block; its warps share the rows. */
    EMO_SUM_ROWS_COLUMNS = 32
};

/* out[c] += scale * the sum over r of partial[r, c], in a fixed order. */
struct EmoSumRows {
    const double *partial; /* [rows, columns] */
    float *out;            /* [columns], or null */
    double *wide_out;      /* [columns], where out is null */
    double scale;
    uint32_t rows;
    uint32_t columns;
};
#endif

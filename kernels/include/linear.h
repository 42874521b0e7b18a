/* What dense layers need beyond the grouped products: sums in two stages. */
#ifndef EMO_LINEAR_H
#define EMO_LINEAR_H
#include <stdint.h>

enum EmoLinearTile { EMO_LINEAR_THREADS = 128 /* columns a block */ };

/* parts[p][n] = sum of x[r][n] over the rows r of part p; block (i, p): columns from EMO_LINEAR_THREADS i on. */
struct EmoColumnSums {
    const void *x; /* [rows, columns] */
    float *parts;  /* [ceil(rows / part_rows), columns] */
    uint32_t rows;
    uint32_t columns;
    uint32_t part_rows;
};

/* out[i] += sum over p of parts[p][i], p ascending. */
struct EmoSumParts {
    const float *parts; /* [count, len] */
    float *out;         /* [len] */
    uint64_t len;
    uint32_t count;
};
#endif

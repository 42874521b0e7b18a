/* Element-wise work on whole buffers. */
#ifndef EMO_MEMORY_H
#define EMO_MEMORY_H
#include <stdint.h>

enum EmoMemoryTile {
    EMO_MEMORY_THREADS = 256,
    EMO_MEMORY_ELEMENTS = 8 /* elements a thread */
};

/* y += x over `len` elements. `wide`: both pointers are multiples of 16 bytes. */
struct EmoAdd {
    const void *x;
    void *y;
    uint64_t len;
    uint32_t wide;
};
#endif

// Reports from the device: an index outside its bound is named and skipped, never followed.
#pragma once
#include "../include/status.h"

namespace emo {

// True where `value < bound`; otherwise the first caller leaves a report.
__device__ __forceinline__ bool below(EmoStatus *status, uint32_t site, uint32_t position, uint32_t value,
                                      uint32_t bound) {
    if (value < bound) return true;
    if (atomicCAS(&status->site, 0u, site) == 0u) {
        status->position = position;
        status->bound = bound;
        status->found = value;
    }
    return false;
}

}  // namespace emo

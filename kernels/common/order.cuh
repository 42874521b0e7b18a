// Numbers as unsigned keys of the same order, and the best of a warp by redux (sm_80 and later): one instruction where a
// butterfly of shuffles takes five.
#pragma once
#include <stdint.h>

#include "reduce.cuh"

namespace emo {

// Keys below every number's: nothing there, an expert that may not be used, NaN.
constexpr uint32_t KEY_NONE = 0, KEY_FORBIDDEN = 1, KEY_NAN = 2;

// Ascending as x does; -0 and +0 are equal.
__device__ __forceinline__ uint32_t order_key(float x) {
    const uint32_t bits = __float_as_uint(x + 0.0f);
    const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return x == x ? key : KEY_NAN;
}
__device__ __forceinline__ uint64_t order_key(double x) {
    const uint64_t bits = static_cast<uint64_t>(__double_as_longlong(x + 0.0));
    const uint64_t key = bits >> 63 ? ~bits : bits | (1ull << 63);
    return x == x ? key : KEY_NAN;
}

// The number behind a key; NaN for the three keys that stand for no number.
__device__ __forceinline__ float key_value(uint32_t key) {
    return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ __forceinline__ uint32_t warp_max_key(uint32_t key) { return __reduce_max_sync(ALL_LANES, key); }
__device__ __forceinline__ uint64_t warp_max_key(uint64_t key) {
    const uint32_t high = static_cast<uint32_t>(key >> 32);
    const uint32_t best = __reduce_max_sync(ALL_LANES, high);
    const uint32_t low = __reduce_max_sync(ALL_LANES, high == best ? static_cast<uint32_t>(key) : 0u);
    return static_cast<uint64_t>(best) << 32 | low;
}

// Takes the entries of a row one after the other, best key first, equal keys by index. Lane `l` holds the entries
// `l, l + 32, ...` of the row.
template <class Key, int N> struct Selector {
    Key keys[N];
    Key best;
    uint32_t best_index;

    // After the keys are set.
    __device__ __forceinline__ void scan(uint32_t lane) {
        best = keys[0];
        best_index = lane;
#pragma unroll
        for (int j = 1; j < N; ++j) {
            if (keys[j] > best) {
                best = keys[j];
                best_index = j * WARP + lane;
            }
        }
    }

    // Removes the best entry: every lane gets its index and its key.
    __device__ __forceinline__ uint32_t take(uint32_t lane, Key &key) {
        key = warp_max_key(best);
        const uint32_t index = __reduce_min_sync(ALL_LANES, best == key ? best_index : UINT32_MAX);
        if (best_index == index) {
#pragma unroll
            for (int j = 0; j < N; ++j) keys[j] = j * WARP + lane == index ? Key(KEY_NONE) : keys[j];
            scan(lane);
        }
        return index;
    }
};

}  // namespace emo

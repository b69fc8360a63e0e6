/* SPDX-License-Identifier: MIT */
/* Permutations of [0,n) without a table: any element is computed from the key alone, in constant expected time.
 * Integer arithmetic only, so the same everywhere. */
#ifndef DATA_SHUFFLE_H
#define DATA_SHUFFLE_H

#include <stdint.h>

uint64_t shuffle_key(uint64_t seed, uint64_t source, uint64_t epoch);

/* Where the key's permutation of [0,n) sends i; 0 <= i < n. */
int64_t shuffle_at(uint64_t key, int64_t n, int64_t i);

#endif

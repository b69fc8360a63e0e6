/* SPDX-License-Identifier: MIT */
/* A Feistel network permutes [0,4^h), the smallest such range that holds [0,n). Whatever lands outside [0,n) is
 * sent through again: following the cycle of an element of [0,n) must come back into [0,n), and two elements
 * never meet, so what is left is a permutation of [0,n). Fewer than four passes are needed on average. */
#include "data/shuffle.h"

enum { ROUNDS = 8 };

/* splitmix64's finaliser: every output bit depends on every input bit. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t shuffle_key(uint64_t seed, uint64_t source, uint64_t epoch)
{
    return mix(mix(mix(seed) ^ source) ^ epoch);
}

int64_t shuffle_at(uint64_t key, int64_t n, int64_t i)
{
    int half = 1;
    while (half < 32 && ((uint64_t)n - 1) >> (2 * half))
        half++;
    uint64_t mask = ((uint64_t)1 << half) - 1, x = (uint64_t)i;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (int r = 0; r < ROUNDS; r++) {
            uint64_t next = left ^ (mix(right ^ mix(key + (uint64_t)r)) & mask);
            left = right;
            right = next;
        }
        x = left << half | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

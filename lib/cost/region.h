/* SPDX-License-Identifier: MIT */
/* Where the activations of each (chunk, microbatch) lie in their region of a rank's block.
 *
 * First fit over the program: a stash lives from its F to its last op (B, or W where there is one), and then
 * its bytes are free again. 1F1B on rank 2 of 4 holds two microbatches, so it has two stashes of s bytes
 * whatever their number: F0 takes [0,s), F1 [s,2s), B0 frees [0,s), F2 takes it, B1 frees [s,2s),
 * F3 takes it, …
 *
 * Chunks may differ in size. Interleaved, p = 2, v = 2, m = 4 (the program is in plan/schedule.c), rank 0, the
 * first chunk of 10 bytes and the second of 20:
 *
 *   F0.0 [0,10)   F1.0 [10,20)   F0.1 [20,40)   F1.1 [40,60)   F2.0 [60,70)
 *   B0.1 frees [20,40): F3.0 [20,30)
 *   B1.1 frees [40,60): F2.1 [30,50)
 *   B0.0 frees [0,10), which is too small, as [50,60) is: F3.1 [70,90)
 *
 * The region is 90 bytes. A stash is a stage and a place, so F0.1 and F3.0 have stashes of their own. */
#ifndef COST_REGION_H
#define COST_REGION_H

#include <stdbool.h>
#include <stdint.h>

/* The block of one chunk and microbatch, while it lives and after; number 0 is none, and lies before all. */
struct stay {
    int64_t begin, end;
    int before, after; /* its neighbours among those that live, by place; 0 at either end */
    int chunk;
    bool taken, lives;
};

struct region {
    struct stay *list; /* [1 + chunk·m + microbatch] */
    /* No gap before the end of this block is as large as the smallest stash: the search begins here. In
     * gpipe it is the last one until the backwards begin, and nothing is searched. */
    int from;
    int64_t smallest;
};

/* The lowest gap that is large enough. */
void region_take(struct region *b, int number, int chunk, int64_t bytes);
/* Nothing where it does not live. */
void region_free(struct region *b, int number);

#endif

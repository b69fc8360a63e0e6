/* SPDX-License-Identifier: MIT */
/* Products of operands that lie in the caches. A library packs both operands of every product; attention, whose
 * blocks are used again and again as they lie, has none of that here.
 *
 * A word is 32 bits: an f32, or two bf16 that are neighbours in K (matmul_words.c says more). */
#ifndef KERNELS_CPU_MICRO_H
#define KERNELS_CPU_MICRO_H

#include <stdbool.h>
#include <stdint.h>

enum { MICRO_ROWS = 4, MICRO_MOST = 16, MICRO_COLUMNS = 16 };

/* Memory that will be touched soon, in rows of `across` lines, `ld` bytes apart. While a product computes it
 * asks for a few lines with every few rows that it has done, in this order, and then for those of `then`. */
enum { ERRANDS = 5 };
struct errands {
    struct errand {
        const char *p;
        int64_t ld, across, rows;
    } list[ERRANDS];
    int count, at;
    int64_t row, line; /* the next, of list[at] */
    struct errands *then;
};
static inline void micro_errands(struct errands *e)
{
    enum { LINE = 64, EACH = 12 };
    while (e->at == e->count && e->then)
        e = e->then;
    for (int left = EACH; left > 0 && e->at < e->count; left--) {
        const struct errand *of = e->list + e->at;
        __builtin_prefetch(of->p + e->row * of->ld + e->line * LINE, 0, 3);
        if (++e->line < of->across)
            continue;
        e->line = 0;
        if (++e->row == of->rows) {
            e->row = 0;
            e->at++;
        }
    }
}

/* C[m,n] = A·B, added to C if `add`; k counts words. Word (i,k) of A is a[i·row + k·step], so that A may be
 * transposed; B is [k,n], and n a multiple of MICRO_COLUMNS. C is f32 and has room for m rounded up to
 * MICRO_ROWS: what is written into the rows from m on means nothing. Each element is summed in order of k, one
 * by one; of a pair, the second product first. `pairs`: only where micro_has_pairs().
 *
 * The zeros of a staircase need not be read. MICRO_ROWS rows of A are a step: of step i words before i·skip
 * are zeros, and, where there is a climb, words from `first` + i·climb on. What lies within MICRO_MOST rows
 * may be read all the same. */
struct micro {
    int64_t m, n, k;
    int64_t skip, first, climb;
    const float *a;
    int64_t row, step;
    const float *b;
    int64_t ldb;
    float *c;
    int64_t ldc;
    bool add, pairs;
    struct errands *errands; /* or NULL */
};
void micro_product(const struct micro *p);

/* Whether the processor multiplies pairs. */
bool micro_has_pairs(void);

#endif

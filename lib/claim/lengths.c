/* SPDX-License-Identifier: MIT */
#include "claim/lengths.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "cost/predict.h"

void claims_by_length(struct lengths *l, const struct claims *c, const struct plan *p)
{
    struct judged *judged = xcalloc((size_t)c->count, sizeof *judged);
    *l = (struct lengths){0};
    l->holds = xcalloc((size_t)c->count, sizeof *l->holds);
    l->refuted = xcalloc((size_t)c->count, sizeof *l->refuted);
    int64_t cut = p->axes.tp * p->axes.cp, seq = 64;
    while (seq % cut)
        seq += 64;
    for (; l->count < LENGTHS; seq *= 2) {
        struct plan q = *p; /* its batch and predictions are its own */
        q.batch.seq = seq;
        if (plan_predict(&q) < 0) { /* too long for any rank */
            error_clear();
            break;
        }
        claims_judge(c, &q, NULL, judged);
        for (int i = 0; i < c->count; i++) {
            l->holds[i] |= (unsigned)(judged[i].judgement == CLAIM_HOLDS) << l->count;
            l->refuted[i] |= (unsigned)(judged[i].judgement == CLAIM_REFUTED) << l->count;
        }
        l->seq[l->count++] = seq;
    }
    free(judged);
}

void lengths_release(struct lengths *l)
{
    free(l->holds);
    free(l->refuted);
    *l = (struct lengths){0};
}

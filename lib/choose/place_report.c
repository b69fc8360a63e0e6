/* SPDX-License-Identifier: MIT */
#include "choose/place_report.h"

#include <math.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/words.h"
#include "cost/seconds.h"
#include "plan/slots.h"

typedef long long ll;

/* A step's seconds where the fullest rank has so much over the mean, in every layer. What the plan's numbers of
 * experts alone would make uneven is in that already. */
static int step_with(const struct plan *p, double over_mean, double *step_s)
{
    struct seconds s;
    TRY(plan_seconds(p, over_mean / plan_unevenness(p), &s));
    *step_s = s.step_s;
    return 0;
}

static const char *seconds_text(double s, char buf[static 24])
{
    snprintf(buf, 24, isnan(s) ? "-" : "%.4g s", s);
    return buf;
}

static int row(const struct plan *from, const struct plan *to, const struct load_table *t, const char *name,
               bool star, FILE *out)
{
    struct evenness v = place_evenness(to, t);
    struct moves m = place_moves(from, to);
    char step[24], all[24], each[24], takes[24];
    double step_s;
    TRY(step_with(to, v.mean, &step_s));
    fprintf(out, "%c %-14s %6.3f %6.3f (%d) %10s %8lld %10s %10s %10s\n", star ? '*' : ' ', name, v.mean,
            v.worst, v.layer, seconds_text(step_s, step), (ll)m.experts, human_bytes(m.bytes, all),
            human_bytes(m.rank_bytes, each), seconds_text(m.rank_s, takes));
    if (m.sum_bytes > 0)
        fprintf(out, "  %-14s in training its replicas would sum %s of gradients a rank and step: %s\n", "",
                human_bytes(m.sum_bytes, all), seconds_text(m.sum_s, step));
    return 0;
}

/* With the plan's slots set to those of a placement; they are the plan's again at the end. */
static int tried(const struct plan *p, const struct load_table *t, const struct fleet *f, enum placement how,
                 bool star, FILE *out)
{
    struct plan to = *p;
    struct fleet g = *f;
    to.slots = (struct slots){0};
    if (how != PLACE_HIERARCHICAL)
        g.slots = p->model.experts;
    int rc = place_experts(&to, t, how, &g);
    if (rc < 0 && !star) { /* it cannot: that is all there is to say */
        fprintf(out, "  %-14s not possible: %s\n", word_at(&placement_words, how), error_text());
        error_clear();
        return 0;
    }
    if (rc == 0)
        rc = row(p, &to, t, word_at(&placement_words, how), star, out);
    slots_release(&to.slots);
    return rc;
}

int place_report(const struct plan *p, const struct load_table *t, const struct fleet *f, enum placement chosen,
                 FILE *out)
{
    fprintf(out, "%lld experts in %lld layers over ep %lld", (ll)p->model.experts, (ll)p->model.moe_layers,
            (ll)p->axes.ep);
    if (f->slots > p->model.experts)
        fprintf(out, ", %lld slots", (ll)f->slots);
    fprintf(out, "; the fullest rank over the mean, and what moving the experts takes\n");
    fprintf(out, "  %-14s %6s %6s (layer) %6s %8s %10s %10s %10s\n", "placement", "mean", "worst", "step",
            "moved", "bytes", "a rank", "takes");
    TRY(row(p, p, t, "as it is", false, out));
    for (int how = 0; how < PLACEMENTS; how++)
        TRY(tried(p, t, f, how, how == (int)chosen, out));
    return 0;
}

int place_map(const struct load_table *t, const struct fleet *f, FILE *out)
{
    TRY(balancer_takes(f, t->experts));
    int32_t *map = xcalloc((size_t)f->slots, sizeof *map);
    for (int64_t l = 0; l < t->layers; l++) {
        balance_experts(f, t->experts, t->load + l * t->experts, map);
        for (int64_t i = 0; i < f->slots; i++)
            fprintf(out, "%d%c", (int)map[i], i + 1 < f->slots ? ' ' : '\n');
    }
    free(map);
    return 0;
}

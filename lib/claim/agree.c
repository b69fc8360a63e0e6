/* SPDX-License-Identifier: MIT */
#include "claim/agree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "claim/facts.h"
#include "cost/cluster.h"
#include "cost/memory.h"
#include "model/size.h"

enum { FINE = 1 << 17, PRECISIONS = PRECISION_FP8 + 1 };

struct world {
    int64_t seq, top_k;
    enum precision precision;
};

/* What is the same in many worlds. */
struct worlds {
    const struct plan *p;
    const struct claims *c;
    struct agreement *a;
    double *flops; /* [sequence lengths] a token, at the plan's top-k */
    int64_t *seqs;
    int seq_count;
    double per_k; /* operations a token for each further expert */
    int64_t top_ks;
    /* [count][PRECISIONS][top_ks + 1] the lengths at which what a claim says of memory is so: fits_of() */
    struct range_of *fits;
};

static struct range_of *fits_of(const struct worlds *w, int i, enum precision precision, int64_t top_k)
{
    return &w->fits[((int64_t)i * PRECISIONS + precision) * (w->top_ks + 1) + top_k];
}

static const struct claim *claim_at(const struct worlds *w, int i)
{
    return &w->c->list[w->a->bound[i]];
}

/* ---- which claims worlds decide ---- */

static bool is_speed(const struct claim *c)
{
    if (c->kind != CLAIM_FIGURE)
        return false;
    switch ((enum figure_id)(c->figure - figure_table)) {
    case FIGURE_step_s:
    case FIGURE_microbatch_s:
    case FIGURE_sequences_per_s:
    case FIGURE_tokens_per_s:
    case FIGURE_mfu:
        return true;
    default:
        return false;
    }
}

static bool is_memory(const struct claim *c)
{
    if (c->kind != CLAIM_FIGURE)
        return false;
    switch ((enum figure_id)(c->figure - figure_table)) {
    case FIGURE_memory_bytes:
    case FIGURE_memory_used:
    case FIGURE_state_bytes:
    case FIGURE_activation_bytes:
    case FIGURE_workspace_bytes:
        return true;
    default:
        return false;
    }
}

static bool is_flops(const struct claim *c)
{
    return c->kind == CLAIM_FIGURE && c->figure - figure_table == FIGURE_flops_per_token;
}

/* Of the facts only a capacity depends on the world. */
static double capacity_factor(const struct worlds *w, const struct claim *c)
{
    if (c->kind != CLAIM_FACT || strcmp(c->fact->name, "expert_capacity") != 0)
        return 0;
    return isnan(c->arg) ? w->p->routing.capacity : c->arg;
}

static bool decided_by_worlds(const struct worlds *w, const struct claim *c)
{
    return is_speed(c) || is_memory(c) || is_flops(c) || capacity_factor(w, c) > 0;
}

/* ---- one world ---- */

static double seconds_at_peak(const struct worlds *w, const struct world *at, double flops)
{
    return (double)w->p->batch.global * (double)at->seq * flops /
           (w->p->world * machine_peak(&w->p->machine, at->precision));
}

/* The step times at which the claim holds. */
static void range_in(const struct worlds *w, const struct claim *c, const struct world *at, double at_peak,
                     double *low, double *high)
{
    double x[2], g = (double)w->p->batch.global;
    enum figure_id id = (enum figure_id)(c->figure - figure_table);
    bound_range(&c->bound, &x[0], &x[1]);
    x[0] = fmax(x[0], 0);
    if (id == FIGURE_step_s || id == FIGURE_microbatch_s) {
        double m = id == FIGURE_step_s ? 1 : (double)w->p->batch.microbatches;
        *low = m * x[0];
        *high = m * x[1];
    } else {
        double a = id == FIGURE_sequences_per_s ? g : id == FIGURE_tokens_per_s ? g * (double)at->seq : at_peak;
        *low = a / x[1];
        *high = x[0] > 0 ? a / x[0] : INFINITY;
    }
}

static double memory_figure(const struct plan *p, const struct claim *c)
{
    const struct predict *x = &p->predict;
    switch ((enum figure_id)(c->figure - figure_table)) {
    case FIGURE_memory_used:
        return p->machine.memory_bytes > 0 ? x->memory_bytes / p->machine.memory_bytes : NAN;
    case FIGURE_state_bytes:
        return x->state_bytes;
    case FIGURE_activation_bytes:
        return x->activation_bytes;
    case FIGURE_workspace_bytes:
        return x->workspace_bytes;
    default:
        return x->memory_bytes;
    }
}

/* Whether the claim holds whatever a step takes. */
static bool holds_in(const struct worlds *w, int i, const struct world *at, double flops)
{
    const struct claim *c = claim_at(w, i);
    if (is_memory(c)) {
        const struct range_of *r = fits_of(w, i, at->precision, at->top_k);
        return at->seq >= r->low && at->seq <= r->high;
    }
    if (is_flops(c))
        return bound_holds(&c->bound, flops);
    return bound_holds(&c->bound, capacity_with(w->p, at->seq, at->top_k, capacity_factor(w, c)));
}

/* The claims that hold in a world: `always` of them, and ranges of those on speed, low > high where at no
 * time. */
static uint64_t look(const struct worlds *w, const struct world *at, double flops, double *low, double *high)
{
    const struct agreement *a = w->a;
    double least = seconds_at_peak(w, at, flops);
    uint64_t always = 0;
    for (int i = 0; i < a->count; i++) {
        uint64_t bit = (uint64_t)1 << i;
        if (a->speed & bit) {
            range_in(w, claim_at(w, i), at, least, &low[i], &high[i]);
            low[i] = fmax(low[i], least);
        } else if (holds_in(w, i, at, flops))
            always |= bit;
    }
    return always;
}

/* Those that hold at this time. Of a range the ends are left out where another ends there. */
static uint64_t at_time(const struct agreement *a, const double *low, const double *high, double t)
{
    uint64_t set = 0;
    for (int i = 0; i < a->count; i++)
        if ((a->speed >> i & 1) && low[i] <= t && t < high[i])
            set |= (uint64_t)1 << i;
    return set;
}

/* ---- memory ---- */

/* NaN where no rank can have so much. */
static double memory_at(struct plan *q, const struct claim *c, int64_t seq)
{
    q->batch.seq = seq;
    if (memory_predict(q) < 0) {
        error_clear();
        return INFINITY;
    }
    return memory_figure(q, c);
}

/* The first of the lengths at which memory, which grows with them, is more than x (or no less). */
static int first_above(const struct worlds *w, struct plan *q, const struct claim *c, double x)
{
    int low = 0, high = w->seq_count;
    while (low < high) {
        int mid = (low + high) / 2;
        if (memory_at(q, c, w->seqs[mid]) > x)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

static void find_fits(struct worlds *w, int i, enum precision precision, int64_t top_k)
{
    const struct claim *c = claim_at(w, i);
    struct plan q = *w->p; /* its model, batch and training are its own */
    double low, high;
    bound_range(&c->bound, &low, &high);
    q.training.precision = precision;
    q.model.top_k = top_k;
    int from = first_above(w, &q, c, low), to = first_above(w, &q, c, high);
    *fits_of(w, i, precision, top_k) =
        from < to ? (struct range_of){w->seqs[from], w->seqs[to - 1]} : (struct range_of){1, 0};
}

/* ---- what is seen over all worlds ---- */

static void widen(struct range_of *r, int64_t x)
{
    *r = r->low > r->high ? (struct range_of){x, x} : (struct range_of){min64(r->low, x), max64(r->high, x)};
}

static const struct places nowhere = {{1, 0}, {1, 0}, {1, 0}, {1, 0}, 0, 0, 0, 0};

static void note_place(const struct worlds *w, struct places *x, const struct world *at)
{
    const struct plan *p = w->p;
    bool own_precision = at->precision == p->training.precision;
    if (!x->precisions) {
        x->first_seq = at->seq;
        x->first_top_k = at->top_k;
        x->first_precision = at->precision;
    }
    widen(&x->all_seq, at->seq);
    widen(&x->all_top_k, at->top_k);
    x->precisions |= 1u << at->precision;
    if (own_precision && at->top_k == p->model.top_k)
        widen(&x->seq, at->seq);
    if (own_precision && at->seq == p->batch.seq)
        widen(&x->top_k, at->top_k);
}

static struct subset *subset_of(struct subset **list, int *count, uint64_t claims)
{
    for (int i = 0; i < *count; i++)
        if ((*list)[i].claims == claims)
            return &(*list)[i];
    *list = xrealloc(*list, (size_t)*count + 1, sizeof **list);
    struct subset *s = &(*list)[(*count)++];
    *s = (struct subset){claims, __builtin_popcountll(claims), nowhere};
    return s;
}

/* Ranges that meet two by two. */
static void note_pairs(struct worlds *w, const struct world *at, const double *low, const double *high,
                       bool own)
{
    struct agreement *a = w->a;
    for (int i = 0; i < a->count; i++)
        for (int k = i + 1; k < a->count; k++) {
            uint64_t both = (uint64_t)1 << i | (uint64_t)1 << k;
            if ((a->speed & both) != both || !(fmax(low[i], low[k]) < fmin(high[i], high[k])))
                continue;
            note_place(w, &a->pairs[i * a->count + k], at);
            if (own) {
                a->apart_here[i] &= ~both;
                a->apart_here[k] &= ~both;
            }
        }
}

static bool is_own(const struct worlds *w, const struct world *at)
{
    return at->seq == w->p->batch.seq && at->top_k == w->p->model.top_k &&
           at->precision == w->p->training.precision;
}

/* Every set of claims that some step time satisfies and no other one's contains. A maximal one begins where
 * one of its ranges does. */
static void visit(struct worlds *w, const struct world *at, double flops)
{
    struct agreement *a = w->a;
    double low[AGREE_MOST], high[AGREE_MOST];
    uint64_t sets[AGREE_MOST + 1], always = look(w, at, flops, low, high);
    int count = 0;
    sets[count++] = always;
    for (int i = 0; i < a->count; i++)
        if ((a->speed >> i & 1) && low[i] < high[i])
            sets[count++] = always | at_time(a, low, high, low[i]);
    bool own = is_own(w, at);
    for (int i = 0; i < count; i++) {
        bool maximal = sets[i] != 0;
        a->anywhere |= sets[i];
        for (int k = 0; k < count && maximal; k++)
            maximal = (sets[k] & sets[i]) != sets[i] || sets[k] == sets[i];
        if (maximal)
            note_place(w, &subset_of(&a->subsets, &a->subset_count, sets[i])->at, at);
        if (maximal && own)
            note_place(w, &subset_of(&a->here, &a->here_count, sets[i])->at, at);
    }
    note_pairs(w, at, low, high, own);
    if (own) {
        a->least_s = seconds_at_peak(w, at, flops);
        for (int i = 0; i < a->count; i++) {
            bool speed = a->speed >> i & 1;
            a->low[i] = speed ? low[i] : NAN;
            a->high[i] = speed ? high[i] : NAN;
        }
    }
}

static int by_size(const void *x, const void *y)
{
    const struct subset *a = x, *b = y;
    if (a->count != b->count)
        return b->count - a->count;
    return (a->claims > b->claims) - (a->claims < b->claims);
}

/* Largest first, and none that another contains. */
static void keep_maximal(struct subset *list, int *count)
{
    int kept = 0;
    if (*count)
        qsort(list, (size_t)*count, sizeof *list, by_size);
    for (int i = 0; i < *count; i++) {
        bool maximal = true;
        for (int k = 0; k < kept && maximal; k++)
            maximal = (list[k].claims & list[i].claims) != list[i].claims;
        if (maximal)
            list[kept++] = list[i];
    }
    *count = kept;
}

/* ---- all of them ---- */

static void make_lengths(struct worlds *w)
{
    const struct plan *p = w->p;
    int64_t cut = p->axes.tp * p->axes.cp, step = 64;
    while (step % cut && step < LONGEST)
        step += 64;
    int room = LONGEST / 64 + 2;
    w->seqs = xcalloc((size_t)room, sizeof *w->seqs);
    w->flops = xcalloc((size_t)room, sizeof *w->flops);
    for (int64_t s = step, own = p->batch.seq; s <= LONGEST || own > 0;) {
        int64_t next = own > 0 && (own <= s || s > LONGEST) ? own : s; /* the plan's own is among them */
        own = next == own ? 0 : own;
        w->seqs[w->seq_count++] = next;
        if (next == s)
            s += s < FINE ? step : round_up(s / 2000, step);
    }
    for (int i = 0; i < w->seq_count; i++)
        w->flops[i] = model_flops_per_token(&p->model, w->seqs[i]);
    struct model more = p->model;
    more.top_k++;
    w->per_k = model_flops_per_token(&more, 64) - model_flops_per_token(&p->model, 64);
    w->top_ks = max64(p->model.top_k, min64(p->model.experts, TOP_K_MOST));
}

static void choose_claims(struct worlds *w)
{
    struct agreement *a = w->a;
    for (int i = 0; i < w->c->count; i++) {
        const struct claim *c = &w->c->list[i];
        if (!decided_by_worlds(w, c))
            continue;
        if (is_speed(c) && a->count < AGREE_MOST)
            a->speed |= (uint64_t)1 << a->count;
        a->bound[a->count++] = i;
    }
}

static void visit_all(struct worlds *w)
{
    const struct plan *p = w->p;
    int64_t from = p->model.moe_layers ? 1 : p->model.top_k;
    for (int precision = 0; precision < PRECISIONS; precision++) {
        if (!(machine_peak(&p->machine, precision) > 0))
            continue;
        for (int64_t k = from; k <= w->top_ks; k++) {
            for (int i = 0; i < w->a->count; i++)
                if (is_memory(claim_at(w, i)))
                    find_fits(w, i, precision, k);
            for (int i = 0; i < w->seq_count; i++) {
                const struct world at = {w->seqs[i], k, precision};
                visit(w, &at, w->flops[i] + (double)(k - p->model.top_k) * w->per_k);
            }
        }
    }
}

int claims_agree(struct agreement *a, const struct claims *c, const struct plan *p)
{
    struct worlds w = {.p = p, .c = c, .a = a};
    *a = (struct agreement){.least_s = NAN};
    a->bound = xcalloc((size_t)c->count, sizeof *a->bound);
    choose_claims(&w);
    if (a->count > AGREE_MOST) {
        int count = a->count;
        agreement_release(a);
        return error(STATUS_USAGE, "%d claims on speed, memory or capacity; %d can be held against each other",
                     count, AGREE_MOST);
    }
    size_t n = (size_t)a->count + 1;
    a->low = xcalloc(n, sizeof *a->low);
    a->high = xcalloc(n, sizeof *a->high);
    a->pairs = xcalloc(n * n, sizeof *a->pairs);
    for (size_t i = 0; i < n * n; i++)
        a->pairs[i] = nowhere;
    a->apart_here = xcalloc(n, sizeof *a->apart_here);
    for (int i = 0; i < a->count; i++)
        a->apart_here[i] = (((uint64_t)1 << a->count) - 1) & ~((uint64_t)1 << i);
    make_lengths(&w);
    w.fits = xcalloc(n * PRECISIONS * (size_t)(w.top_ks + 1), sizeof *w.fits);
    visit_all(&w);
    keep_maximal(a->here, &a->here_count);
    keep_maximal(a->subsets, &a->subset_count);
    free(w.fits);
    free(w.seqs);
    free(w.flops);
    return 0;
}

void agreement_release(struct agreement *a)
{
    free(a->bound);
    free(a->low);
    free(a->high);
    free(a->pairs);
    free(a->apart_here);
    free(a->here);
    free(a->subsets);
    *a = (struct agreement){0};
}

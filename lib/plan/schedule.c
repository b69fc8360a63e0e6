/* SPDX-License-Identifier: MIT */
/* The generators of schedules. Each writes, for every pipeline rank i of p, the list of operations that rank
 * runs in order.
 *
 *   gpipe        all forwards, then all backwards; holds m microbatches
 *   1f1b         p−i−1 forwards, then one forward and one backward in turn; holds min(m, p−i)
 *   interleaved  1F1B over v chunks a rank, in rounds of p microbatches (Megatron-LM); 2(p−i−1) + (v−1)p
 * forwards first zb-h1        1F1B whose backward is split (Qi et al. 2023): B passes the gradient on at once,
 * W fills what would be idle; no rank holds more than the first does in 1F1B, min(m, p)
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "plan/plan.h"

const char *const schedule_name[4] = {"gpipe", "1f1b", "interleaved", "zb-h1"};

static void add(struct program *g, char kind, int64_t chunk, int64_t microbatch)
{
    g->ops[g->count++] = (struct op){kind, (int)chunk, (int)microbatch};
}

static void gpipe(struct program *g, int64_t m)
{
    for (int64_t k = 0; k < m; k++)
        add(g, 'F', 0, k);
    for (int64_t k = 0; k < m; k++)
        add(g, 'B', 0, k);
}

/* `first` forwards, then forward and backward in turn; number k of either is the k-th in rounds of p
 * microbatches. */
static void one_f_one_b(struct program *g, int64_t total, int64_t first, int64_t p, int64_t v)
{
    first = min64(first, total);
    for (int64_t k = 0; k < total + first; k++) {
        if (k < total) /* forward k: rounds of p microbatches through chunk 0, 1, … */
            add(g, 'F', k / p % v, k / (p * v) * p + k % p);
        int64_t b = k - first;
        if (b >= 0)
            add(g, 'B', v - 1 - b / p % v, b / (p * v) * p + b % p);
    }
}

/* What a rank of ZB-H1 has done, and when (in unit steps) its forwards and backwards end. */
struct zb_rank {
    int64_t f, b, w;
    int64_t *f_end, *b_end;
    int64_t busy_until;
};

/* The op a free rank should start now: B if its gradient is there, else F if it has room, else W; 0: wait. */
static char zb_choose(const struct zb_rank *ranks, int64_t i, int64_t p, int64_t m, int64_t now)
{
    const struct zb_rank *r = &ranks[i];
    bool last = i == p - 1;
    if (r->b < r->f &&
        (last ? r->f_end[r->b] <= now : ranks[i + 1].b > r->b && ranks[i + 1].b_end[r->b] <= now))
        return 'B';
    bool room = r->f - r->b < p - i && r->f - r->w < p;
    if (r->f < m && room && (i == 0 || (ranks[i - 1].f > r->f && ranks[i - 1].f_end[r->f] <= now)))
        return 'F';
    return r->w < r->b ? 'W' : 0;
}

/* Lists by playing it with unit costs. */
static void zb_h1(struct program *g, int64_t p, int64_t m)
{
    struct zb_rank *ranks = xcalloc(p, sizeof *ranks);
    for (int64_t i = 0; i < p; i++) {
        ranks[i].f_end = xcalloc(m, sizeof *ranks[i].f_end);
        ranks[i].b_end = xcalloc(m, sizeof *ranks[i].b_end);
    }
    int64_t left = 3 * m * p;
    for (int64_t now = 0; left > 0; now++)
        for (int64_t i = 0; i < p;
             i++) { /* what starts now ends at now + 1, so the order of ranks does not matter */
            struct zb_rank *r = &ranks[i];
            char kind = zb_choose(ranks, i, p, m, now);
            if (!kind)
                continue;
            add(&g[i], kind, 0, kind == 'F' ? r->f : kind == 'B' ? r->b : r->w);
            if (kind == 'F')
                r->f_end[r->f++] = now + 1;
            else if (kind == 'B')
                r->b_end[r->b++] = now + 1;
            else
                r->w++;
            left--;
        }
    for (int64_t i = 0; i < p; i++) {
        free(ranks[i].f_end);
        free(ranks[i].b_end);
    }
    free(ranks);
}

int schedule_make(struct plan *p)
{
    const char *name = p->training.schedule;
    int64_t pp = p->axes.pp, v = p->axes.vpp, m = p->batch.microbatches;
    bool zb = strcmp(name, "zb-h1") == 0;
    p->programs = xcalloc(pp, sizeof *p->programs);
    for (int64_t i = 0; i < pp; i++)
        p->programs[i].ops = xcalloc((zb ? 3 : 2) * m * v, sizeof *p->programs[i].ops);
    if (zb)
        zb_h1(p->programs, pp, m);
    for (int64_t i = 0; i < pp && !zb; i++) {
        if (strcmp(name, "gpipe") == 0)
            gpipe(&p->programs[i], m);
        else if (strcmp(name, "1f1b") == 0)
            one_f_one_b(&p->programs[i], m, pp - i - 1, m, 1);
        else if (strcmp(name, "interleaved") == 0)
            one_f_one_b(&p->programs[i], m * v, 2 * (pp - i - 1) + (v - 1) * pp, pp, v);
        else
            return error(STATUS_USAGE,
                         "rule schedule-fits: no schedule '%s'; gpipe, 1f1b, interleaved or zb-h1 would do",
                         name);
    }
    return 0;
}

bool program_splits_backward(const struct program *g)
{
    for (int i = 0; i < g->count; i++)
        if (g->ops[i].kind == 'W')
            return true;
    return false;
}

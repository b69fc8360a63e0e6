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
#include "plan/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"

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

/* 1F1B with W apart. Rank i puts off i of its W: so many microbatches fewer than the first rank it would hold
 * in 1F1B, and done at the end they fill the time in which the last gradients travel back. */
static void zb_h1(struct program *g, int64_t i, int64_t p, int64_t m)
{
    int64_t first = min64(p - i - 1, m), w = 0;
    for (int64_t k = 0; k < m + first; k++) {
        if (k < m)
            add(g, 'F', 0, k);
        int64_t b = k - first;
        if (b < 0)
            continue;
        add(g, 'B', 0, b);
        if (b >= i)
            add(g, 'W', 0, w++);
    }
    while (w < m)
        add(g, 'W', 0, w++);
}

int schedule_make(struct plan *p)
{
    const char *name = p->training.schedule;
    int64_t pp = p->axes.pp, v = p->axes.vpp, m = p->batch.microbatches;
    bool zb = strcmp(name, "zb-h1") == 0;
    p->programs = xcalloc(pp, sizeof *p->programs);
    for (int64_t i = 0; i < pp; i++)
        p->programs[i].ops = xcalloc((zb ? 3 : 2) * m * v, sizeof *p->programs[i].ops);
    for (int64_t i = 0; i < pp; i++) {
        if (strcmp(name, "gpipe") == 0)
            gpipe(&p->programs[i], m);
        else if (strcmp(name, "1f1b") == 0)
            one_f_one_b(&p->programs[i], m, pp - i - 1, m, 1);
        else if (strcmp(name, "interleaved") == 0)
            one_f_one_b(&p->programs[i], m * v, 2 * (pp - i - 1) + (v - 1) * pp, pp, v);
        else if (zb)
            zb_h1(&p->programs[i], i, pp, m);
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

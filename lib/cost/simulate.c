/* SPDX-License-Identifier: MIT */
/* Plays the programs of all pipeline ranks. A rank runs its list in order; an op starts when the rank is free
 * and what it needs is done: F needs F of the virtual stage before, B needs F of its own and B of the stage
 * after, W needs its own B. Sends never block here, so these are all the ways to wait, and a rank's starting
 * times do not depend on the order in which ranks are played. Where sends do block, cost/messages.h orders them
 * so that none waits in a circle. */
#include "cost/simulate.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "plan/schedule.h"

struct play {
    const struct plan *p;
    int pp, vpp, stages;
    int64_t m;
    const struct stage_times *times; /* [virtual stage] */
    double message_s;
    double *end[3]; /* of F, B, W: [virtual stage][microbatch], negative: not done */
    bool *split;    /* [pp] the program has W ops */
    int *at;        /* [pp] next op */
    double *free_s; /* [pp] */
};

static int kind_index(char kind)
{
    return kind == 'F' ? 0 : kind == 'B' ? 1 : 2;
}

static double *end_of(const struct play *y, char kind, int stage, int microbatch)
{
    return &y->end[kind_index(kind)][(int64_t)stage * y->m + microbatch];
}

/* The op that `o` of rank i waits for, in *wait, and the rank that runs it; -1 when nothing is missing.
 * *ready_s: when it can start. */
static int waits_for(const struct play *y, int i, const struct op *o, struct op *wait, double *ready_s)
{
    int stage = o->chunk * y->pp + i, needs = 0, from[2];
    struct op need[2];
    if (o->kind == 'F' && stage > 0) {
        from[needs] = stage - 1;
        need[needs++] = (struct op){'F', 0, o->microbatch};
    }
    if (o->kind != 'F') {
        from[needs] = stage;
        need[needs++] = (struct op){o->kind == 'B' ? 'F' : 'B', 0, o->microbatch};
    }
    if (o->kind == 'B' && stage < y->stages - 1) {
        from[needs] = stage + 1;
        need[needs++] = (struct op){'B', 0, o->microbatch};
    }
    *ready_s = 0;
    for (int k = 0; k < needs; k++) {
        double end = *end_of(y, need[k].kind, from[k], o->microbatch);
        if (end < 0) {
            *wait = (struct op){need[k].kind, from[k] / y->pp, o->microbatch};
            return from[k] % y->pp;
        }
        if (from[k] % y->pp != i)
            end += y->message_s;
        if (end > *ready_s)
            *ready_s = end;
    }
    return -1;
}

/* Every op once, none out of range. */
static int check_program(const struct play *y, int i)
{
    const struct program *g = &y->p->programs[i];
    int64_t cells = y->vpp * y->m, kinds = y->split[i] ? 3 : 2;
    if (g->count < kinds * cells && cells > 1 << 24) /* before memory is taken for what cannot be there */
        return error(STATUS_NO, "stage %d: %d operations; %lld are needed", i, g->count,
                     (long long)(kinds * cells));
    char *seen = xcalloc(3 * cells, 1), name[OP_TEXT];
    int r = 0;
    for (int k = 0; k < g->count && r == 0; k++) {
        const struct op *o = &g->ops[k];
        if (o->chunk < 0 || o->chunk >= y->vpp || o->microbatch < 0 || o->microbatch >= y->m)
            r = error(STATUS_NO, "stage %d, op %d: %s is out of range (%lld microbatches, %d chunks)", i, k,
                      op_text(o, y->vpp > 1, name), (long long)y->m, y->vpp);
        else if (seen[kind_index(o->kind) * cells + o->chunk * y->m + o->microbatch]++)
            r = error(STATUS_NO, "stage %d, op %d: %s is repeated", i, k, op_text(o, y->vpp > 1, name));
    }
    for (int64_t c = 0; c < kinds * cells && r == 0; c++)
        if (!seen[c]) {
            struct op o = {"FBW"[c / cells], (int)(c % cells / y->m), (int)(c % y->m)};
            r = error(STATUS_NO, "stage %d: %s is missing", i, op_text(&o, y->vpp > 1, name));
        }
    free(seen);
    return r;
}

static double time_of(const struct play *y, int i, const struct op *o)
{
    const struct stage_times *t = &y->times[o->chunk * y->pp + i];
    if (o->kind == 'F')
        return t->f_s;
    if (o->kind == 'W')
        return t->w_s;
    return t->b_s + (y->split[i] ? 0 : t->w_s);
}

/* Runs rank i until it waits or ends; 1 if it ran anything. */
static int advance(struct play *y, int i, struct simulation *out)
{
    const struct program *g = &y->p->programs[i];
    int first = y->at[i];
    for (; y->at[i] < g->count; y->at[i]++) {
        const struct op *o = &g->ops[y->at[i]];
        struct op wait;
        double start;
        if (waits_for(y, i, o, &wait, &start) >= 0)
            break;
        if (start < y->free_s[i])
            start = y->free_s[i];
        double cost = time_of(y, i, o);
        out->start_s[i][y->at[i]] = start;
        y->free_s[i] = *end_of(y, o->kind, o->chunk * y->pp + i, o->microbatch) = start + cost;
    }
    return y->at[i] > first;
}

static int deadlock(const struct play *y, int i)
{
    const struct op *o = &y->p->programs[i].ops[y->at[i]];
    struct op wait;
    double ready_s;
    char name[OP_TEXT], for_name[OP_TEXT];
    int on = waits_for(y, i, o, &wait, &ready_s);
    return error(STATUS_NO, "deadlock: stage %d waits at op %d, %s, for %s of stage %d, which never comes", i,
                 y->at[i], op_text(o, y->vpp > 1, name), op_text(&wait, y->vpp > 1, for_name), on);
}

/* All ranks to their ends. A rank that ran may have freed its neighbours (with chunks, the pipeline is a ring).
 */
static int play_all(struct play *y, struct simulation *out)
{
    int *queue = xcalloc(y->pp, sizeof *queue), head = 0, waiting = y->pp, r = 0;
    bool *queued = xcalloc(y->pp, sizeof *queued);
    for (int i = 0; i < y->pp; i++) {
        queue[i] = i;
        queued[i] = true;
    }
    while (waiting > 0) {
        int i = queue[head];
        head = (head + 1) % y->pp;
        waiting--;
        queued[i] = false;
        if (!advance(y, i, out))
            continue;
        for (int d = 0; d < 2; d++) {
            int n = (i + (d ? 1 : y->pp - 1)) % y->pp;
            if (queued[n] || n == i)
                continue;
            queued[n] = true;
            queue[(head + waiting++) % y->pp] = n;
        }
    }
    for (int i = 0; i < y->pp && r == 0; i++)
        if (y->at[i] < y->p->programs[i].count)
            r = deadlock(y, i);
    free(queue);
    free(queued);
    return r;
}

static void count_in_flight(const struct play *y, struct simulation *out)
{
    for (int i = 0; i < y->pp; i++) {
        const struct program *g = &y->p->programs[i];
        char last = y->split[i] ? 'W' : 'B';
        int held = 0;
        for (int k = 0; k < g->count; k++) {
            if (g->ops[k].kind == 'F' && ++held > out->in_flight[i])
                out->in_flight[i] = held;
            held -= g->ops[k].kind == last;
        }
        if (out->in_flight[i] > out->max_in_flight)
            out->max_in_flight = out->in_flight[i];
    }
}

static void sum_up(const struct play *y, struct simulation *out)
{
    for (int i = 0; i < y->pp; i++)
        if (y->free_s[i] > out->span_s)
            out->span_s = y->free_s[i];
    double busy = 0; /* the mean rank's */
    for (int s = 0; s < y->stages; s++)
        busy += (double)y->m * (y->times[s].f_s + y->times[s].b_s + y->times[s].w_s) / y->pp;
    out->bubble = out->span_s > 0 ? (out->span_s - busy) / out->span_s : 0;
    if (out->bubble < 1e-12) /* rounding of the sum of the steps */
        out->bubble = 0;
    count_in_flight(y, out);
}

static struct play play_init(const struct plan *p)
{
    struct play y = {.p = p, .pp = (int)p->axes.pp, .vpp = (int)p->axes.vpp, .m = p->batch.microbatches};
    y.stages = y.pp * y.vpp;
    y.split = xcalloc(y.pp, sizeof *y.split);
    y.at = xcalloc(y.pp, sizeof *y.at);
    y.free_s = xcalloc(y.pp, sizeof *y.free_s);
    for (int i = 0; i < y.pp; i++)
        y.split[i] = program_splits_backward(&p->programs[i]);
    return y;
}

static void play_release(struct play *y)
{
    for (int k = 0; k < 3; k++)
        free(y->end[k]);
    free(y->split);
    free(y->at);
    free(y->free_s);
}

static int check_programs(const struct play *y)
{
    for (int i = 0; i < y->pp; i++)
        if (check_program(y, i) < 0)
            return -1;
    return 0;
}

int plan_programs_complete(const struct plan *p)
{
    struct play y = play_init(p);
    int r = check_programs(&y);
    play_release(&y);
    return r;
}

int plan_simulate(const struct plan *p, double f_s, double b_s, double w_s, struct simulation *out)
{
    int64_t stages = p->axes.pp * p->axes.vpp;
    struct stage_times *times = xmalloc((size_t)stages * sizeof *times);
    for (int64_t i = 0; i < stages; i++)
        times[i] = (struct stage_times){f_s, b_s, w_s};
    int r = plan_simulate_stages(p, times, 0, out);
    free(times);
    return r;
}

int op_units(const struct op *o, bool splits_backward)
{
    return o->kind == 'B' && !splits_backward ? 2 : 1;
}

int plan_simulate_stages(const struct plan *p, const struct stage_times *times, double message_s,
                         struct simulation *out)
{
    *out = (struct simulation){0};
    struct play y = play_init(p);
    int r = check_programs(&y);
    if (r == 0) {
        y.times = times;
        y.message_s = message_s;
        for (int k = 0; k < 3; k++) {
            y.end[k] = xcalloc(y.stages * y.m, sizeof(double));
            for (int64_t c = 0; c < y.stages * y.m; c++)
                y.end[k][c] = -1;
        }
        out->ranks = y.pp;
        out->in_flight = xcalloc(y.pp, sizeof *out->in_flight);
        out->start_s = xcalloc(y.pp, sizeof *out->start_s);
        for (int i = 0; i < y.pp; i++)
            out->start_s[i] = xcalloc(p->programs[i].count, sizeof(double));
        r = play_all(&y, out);
        if (r == 0)
            sum_up(&y, out);
        else
            simulation_release(out);
    }
    play_release(&y);
    return r;
}

void simulation_release(struct simulation *s)
{
    for (int i = 0; i < s->ranks; i++)
        free(s->start_s[i]);
    free(s->start_s);
    free(s->in_flight);
    *s = (struct simulation){0};
}

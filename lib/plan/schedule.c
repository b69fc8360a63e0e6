/* SPDX-License-Identifier: MIT */
/* The generators of schedules. Each writes the list of operations that pipeline rank i of p runs, in order.
 *
 *   gpipe        all forwards, then all backwards: holds m microbatches
 *   1f1b         p−i−1 forwards, then one forward and one backward in turn: holds min(m, p−i)
 *   interleaved  1F1B over v chunks a rank, in rounds of p microbatches (Megatron-LM, arXiv 2104.04473):
 *                2(p−i−1) + (v−1)p forwards first, so it holds one more than that
 *   zb-h1        1F1B whose backward is split (Qi et al., arXiv 2401.10241): B passes the gradient on at once,
 *                W fills what would be idle; no rank holds more than the first does in 1F1B, min(m, p)
 *
 * 1F1B's warm-up, for p = 4, m = 6. Rank i must have sent p−i−1 microbatches down before the first gradient can
 * be back; then every F is followed by the B that frees its place:
 *
 *   rank 0   F0 F1 F2   F3 B0 F4 B1 F5 B2   B3 B4 B5       3 first, 4 held
 *   rank 2   F0   F1 B0 F2 B1 F3 B2 F4 B3 F5 B4   B5       1 first, 2 held
 *   rank 3   F0 B0 F1 B1 F2 B2 F3 B3 F4 B4 F5 B5           0 first, 1 held
 *
 * Interleaved, p = 2, v = 2, m = 4, rank 0 (1st chunk .0, 2nd .1): two microbatches through both chunks, then
 * the next two; 2·1 + 1·2 = 4 first, 5 held:
 *
 *   F0.0 F1.0 F0.1 F1.1   F2.0 B0.1 F3.0 B1.1 F2.1 B0.0 F3.1 B1.0   B2.1 B3.1 B2.0 B3.0 */
#include "plan/schedule.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"

static void add(struct program *g, char kind, int64_t chunk, int64_t microbatch)
{
    g->ops[g->count++] = (struct op){.kind = kind, .chunk = (int)chunk, .microbatch = (int)microbatch};
}

static void gpipe(struct program *g, struct pipe at)
{
    for (int64_t k = 0; k < at.m; k++)
        add(g, 'F', 0, k);
    for (int64_t k = 0; k < at.m; k++)
        add(g, 'B', 0, k);
}

static int64_t gpipe_holds(struct pipe at)
{
    return at.m;
}

/* `first` forwards, then forward and backward in turn. Number k of either belongs to chunk k/p mod v of round
 * k/(p·v), whose microbatches are p in a row; backward takes the chunks from the last. */
static void alternate(struct program *g, struct pipe at, int64_t first)
{
    int64_t p = at.p, v = at.v, total = at.m * v;
    first = min64(first, total);
    for (int64_t k = 0; k < total + first; k++) {
        if (k < total)
            add(g, 'F', k / p % v, k / (p * v) * p + k % p);
        int64_t b = k - first;
        if (b >= 0)
            add(g, 'B', v - 1 - b / p % v, b / (p * v) * p + b % p);
    }
}

static void one_f_one_b(struct program *g, struct pipe at)
{
    alternate(g, at, at.p - at.i - 1);
}

static int64_t one_f_one_b_holds(struct pipe at)
{
    return min64(at.m, at.p - at.i);
}

static int64_t interleaved_first(struct pipe at)
{
    return 2 * (at.p - at.i - 1) + (at.v - 1) * at.p;
}

static void interleaved(struct program *g, struct pipe at)
{
    alternate(g, at, interleaved_first(at));
}

static int64_t interleaved_holds(struct pipe at)
{
    return min64(at.m * at.v, interleaved_first(at) + 1);
}

static bool interleaved_fits(const struct plan *p, char why[static 400])
{
    int64_t m = p->batch.microbatches, pp = p->axes.pp, global;
    if (m % pp == 0)
        return true;
    int n = snprintf(why, 400, "%lld microbatches are not divisible by pp %lld", (long long)m, (long long)pp);
    if (mul_ok(round_up(m, pp), p->batch.micro * p->axes.dp, &global))
        snprintf(why + n, 400 - n, "; global batch %lld would do", (long long)global);
    return false;
}

/* Rank i puts off i of its W: so many microbatches fewer than the first rank it would hold in 1F1B, and done at
 * the end they fill the time in which the last gradients travel back. */
static void zb_h1(struct program *g, struct pipe at)
{
    int64_t first = min64(at.p - at.i - 1, at.m), w = 0;
    for (int64_t k = 0; k < at.m + first; k++) {
        if (k < at.m)
            add(g, 'F', 0, k);
        int64_t b = k - first;
        if (b < 0)
            continue;
        add(g, 'B', 0, b);
        if (b >= at.i)
            add(g, 'W', 0, w++);
    }
    while (w < at.m)
        add(g, 'W', 0, w++);
}

static int64_t zb_h1_holds(struct pipe at)
{
    return min64(at.m, at.p);
}

const struct schedule schedules[] = {
    {.name = "gpipe", .generate = gpipe, .in_flight = gpipe_holds},
    {.name = "1f1b", .generate = one_f_one_b, .in_flight = one_f_one_b_holds},
    {.name = "interleaved",
     .chunks = true,
     .generate = interleaved,
     .in_flight = interleaved_holds,
     .fits = interleaved_fits},
    {.name = "zb-h1", .splits = true, .generate = zb_h1, .in_flight = zb_h1_holds},
    {.name = NULL},
};
const struct words schedule_words = WORDS(schedules);

const struct schedule *plan_schedule(const struct plan *p)
{
    return &schedules[p->training.schedule];
}

int schedule_default(int64_t vpp)
{
    return word_index(&schedule_words, vpp > 1 ? "interleaved" : "1f1b");
}

struct pipe plan_pipe(const struct plan *p, int64_t i)
{
    return (struct pipe){.i = i, .p = p->axes.pp, .v = p->axes.vpp, .m = p->batch.microbatches};
}

void schedule_make(struct plan *p)
{
    const struct schedule *s = plan_schedule(p);
    p->programs = xcalloc(p->axes.pp, sizeof *p->programs);
    for (int64_t i = 0; i < p->axes.pp; i++) {
        struct pipe at = plan_pipe(p, i);
        p->programs[i].ops = xcalloc((s->splits ? 3 : 2) * at.m * at.v, sizeof *p->programs[i].ops);
        s->generate(&p->programs[i], at);
    }
}

bool program_splits_backward(const struct program *g)
{
    for (int i = 0; i < g->count; i++)
        if (g->ops[i].kind == 'W')
            return true;
    return false;
}

char *op_text(const struct op *o, bool chunks, char buf[static OP_TEXT])
{
    snprintf(buf, OP_TEXT, chunks ? "%c%d.%d" : "%c%d", o->kind, o->microbatch, o->chunk);
    return buf;
}

bool op_parse(const char *text, struct op *o)
{
    char *end;
    if (!*text || !strchr("FBW", *text) || text[1] < '0' || text[1] > '9')
        return false;
    long microbatch = strtol(text + 1, &end, 10), chunk = 0;
    if (*end == '.' && end[1] >= '0' && end[1] <= '9')
        chunk = strtol(end + 1, &end, 10);
    *o = (struct op){.kind = *text, .chunk = (int)chunk, .microbatch = (int)microbatch};
    return !*end && microbatch <= INT32_MAX && chunk <= INT32_MAX;
}

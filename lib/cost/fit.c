/* SPDX-License-Identifier: MIT */
#include "cost/fit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "cost/memory.h"
#include "plan/schedule.h"

/* A change of the plan's settings. */
struct change {
    int64_t micro;
    enum recompute recompute;
    int zero;
    int cost; /* more of it is slower */
};
/* Sharding the optimizer costs next to nothing; smaller microbatches make smaller products; a full
 * recomputation is a third of the work again. */
enum { COST_ZERO = 1, COST_SELECTIVE = 2, COST_HALVING = 3, COST_FULL = 6 };

static int recompute_cost(enum recompute r)
{
    return r == RECOMPUTE_FULL ? COST_FULL : r == RECOMPUTE_SELECTIVE ? COST_SELECTIVE : 0;
}

/* What the rank would need; INT64_MAX if the plan cannot be so. */
static int64_t needs(const struct plan *p, int rank, const struct change *c)
{
    struct plan q = *p; /* with programs of its own */
    struct memory m = {.total = INT64_MAX};
    char why[400];
    q.batch.micro = c->micro;
    q.batch.microbatches = p->batch.microbatches * (p->batch.micro / c->micro);
    q.training.recompute = c->recompute;
    q.training.zero = c->zero;
    const struct schedule *schedule = plan_schedule(&q);
    if ((schedule->splits && c->recompute != RECOMPUTE_NONE) || (schedule->fits && !schedule->fits(&q, why)))
        return INT64_MAX;
    schedule_make(&q);
    if (memory_of_rank(&q, rank, &m) < 0)
        m.total = INT64_MAX;
    error_clear();
    for (int i = 0; i < q.axes.pp; i++)
        free(q.programs[i].ops);
    free(q.programs);
    return m.total;
}

/* The cheapest change that fits; false when there is none. *bytes: what it needs. */
static bool find(const struct plan *p, int rank, int64_t limit, struct change *best, int64_t *bytes)
{
    bool found = false;
    int halvings = 0;
    for (int64_t micro = p->batch.micro; micro > 0; micro = micro % 2 ? 0 : micro / 2, halvings++)
        for (enum recompute r = p->training.recompute; r <= RECOMPUTE_FULL; r++)
            for (int zero = p->training.zero; zero <= (p->training.zero > 1 ? p->training.zero : 1); zero++) {
                struct change c = {micro, r, zero,
                                   halvings * COST_HALVING + recompute_cost(r) -
                                       recompute_cost(p->training.recompute) +
                                       (zero - p->training.zero) * COST_ZERO};
                if (c.cost == 0 || (found && c.cost >= best->cost))
                    continue;
                int64_t need = needs(p, rank, &c);
                if (need > limit)
                    continue;
                *best = c;
                *bytes = need;
                found = true;
            }
    return found;
}

/* The parts, and the axes that cut them, if any. */
struct memory_part {
    const char *name, *cure;
    int64_t bytes;
};

static int larger(const void *a, const void *b)
{
    const struct memory_part *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

static size_t say_parts(const struct memory_part *parts, int count, char *text, size_t room)
{
    char size[24];
    size_t n = 0;
    for (int i = 0; i < count && n < room; i++)
        n += (size_t)snprintf(text + n, room - n, "%s%s take%s %s", i ? ", " : "", parts[i].name,
                              parts[i].name[strlen(parts[i].name) - 1] == 's' ? "" : "s",
                              human_bytes((double)parts[i].bytes, size));
    return n < room ? n : room - 1;
}

void fit_advice(const struct plan *p, int rank, int64_t limit, char text[static 400])
{
    enum { ROOM = 400, SAID = 3 };
    struct memory m;
    *text = '\0';
    if (memory_of_rank(p, rank, &m) < 0)
        return;
    struct memory_part parts[] = {
        {"weights", "--ep, --tp or --pp", m.weights},
        {"gradients", "--ep, --tp or --pp", m.gradients},
        {"optimizer", p->training.zero ? "--dp, --ep, --tp or --pp" : "--ep, --tp or --pp", m.optimizer},
        {"activations", "--tp or --pp", m.activations},
        {"dispatch", "--ep or --tp (or a smaller --lambda)", m.dispatch},
        {"logits", "--tp", m.head},
        {"scratch", NULL, m.communication + m.scratch},
        {"other workspace", "--tp", m.workspace - m.dispatch - m.head - m.communication - m.scratch},
    };
    int count = sizeof parts / sizeof *parts;
    qsort(parts, (size_t)count, sizeof *parts, larger);
    size_t n = say_parts(parts, SAID, text, ROOM);
    struct change c;
    int64_t bytes;
    char size[24];
    if (!find(p, rank, limit, &c, &bytes)) {
        const struct memory_part *first = parts[0].cure ? &parts[0] : &parts[1];
        snprintf(text + n, ROOM - n,
                 ": no other --zero, --recompute or --micro-batch would do; it takes more ranks on %s",
                 first->cure);
        return;
    }
    n += (size_t)snprintf(text + n, ROOM - n, ": with");
    if (c.zero != p->training.zero)
        n += (size_t)snprintf(text + n, ROOM - n, " --zero %d", c.zero);
    if (c.recompute != p->training.recompute)
        n += (size_t)snprintf(text + n, ROOM - n, " --recompute %s", recompute_name[c.recompute]);
    if (c.micro != p->batch.micro)
        n += (size_t)snprintf(text + n, ROOM - n, " --micro-batch %lld", (long long)c.micro);
    snprintf(text + n, ROOM - n, " it would need %s", human_bytes((double)bytes, size));
}

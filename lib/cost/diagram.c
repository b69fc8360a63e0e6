/* SPDX-License-Identifier: MIT */
#include "cost/diagram.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "cost/simulate.h"
#include "plan/schedule.h"

/* An op fills its units: its name, then dashes, then one blank. */
static void draw_op(char *at, int width, const char *name, int length)
{
    memset(at, '-', width - 1);
    at[width - 1] = ' ';
    memcpy(at, name, length);
}

static void draw_rank(const struct plan *p, const struct simulation *s, int i, int unit, char *row)
{
    const struct program *g = &p->programs[i];
    bool split = program_splits_backward(g);
    for (int k = 0; k < g->count; k++) {
        char name[OP_TEXT];
        int length = (int)strlen(op_text(&g->ops[k], p->axes.vpp > 1, name)),
            units = op_units(&g->ops[k], split);
        draw_op(row + (int64_t)s->start_s[i][k] * unit, units * unit, name, length);
    }
}

int plan_diagram(const struct plan *p, FILE *f)
{
    struct simulation s;
    if (plan_simulate(p, 1, 1, 1, &s) < 0)
        return -1;
    char name[OP_TEXT];
    struct op widest = {'F', (int)p->axes.vpp - 1, (int)p->batch.microbatches - 1};
    int unit = (int)strlen(op_text(&widest, p->axes.vpp > 1, name)) + 1;
    int64_t width = (int64_t)s.span_s * unit;
    char *row = xmalloc(width + 1);
    fprintf(f, "# %s, pp %lld, vpp %lld, %lld microbatches; a unit is one F, a B two (one where W is apart)\n",
            plan_schedule(p)->name, (long long)p->axes.pp, (long long)p->axes.vpp,
            (long long)p->batch.microbatches);
    for (int i = 0; i < s.ranks; i++) {
        memset(row, '.', width);
        row[width] = '\0';
        draw_rank(p, &s, i, unit, row);
        fprintf(f, "pp %-4d %s\n", i, row);
    }
    free(row);
    fprintf(f, "span %g\nbubble %.6g\n", s.span_s, s.bubble);
    for (int i = 0; i < s.ranks; i++)
        fprintf(f, "in_flight/%d %d\n", i, s.in_flight[i]);
    simulation_release(&s);
    return 0;
}

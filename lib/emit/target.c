/* SPDX-License-Identifier: MIT */
#include "emit/target.h"

#include "plan/layout.h"
#include "plan/slots.h"

/* A name may be any text: it must not end the comment that it stands in. */
static void put_name(const char *name, FILE *f)
{
    for (; *name; name++)
        putc((unsigned char)*name < ' ' ? '?' : *name, f);
}

void emit_title(const struct plan *p, const char *form, FILE *f)
{
    fputs("# ", f);
    put_name(p->model.name, f);
    fprintf(f, " on %d ranks of ", p->world);
    put_name(p->machine.name, f);
    fprintf(f, ": written by moe-partition emit %s\n", form);
}

bool stands_by(const struct plan *p, const char *order)
{
    struct axes a = p->axes;
    snprintf(a.order, sizeof a.order, "%s", order);
    for (int r = 0; r < p->world; r++)
        if (layout_dense_rank(&a, &p->ranks[r]) != r || layout_expert_rank(&a, &p->ranks[r]) != r)
            return false;
    return true;
}

int even_layers(const struct plan *p)
{
    for (int i = 1; i < p->stage_count; i++)
        if (p->stages[i].layers != p->stages[0].layers)
            return 0;
    return p->stages[0].layers;
}

bool experts_in_order(const struct plan *p)
{
    for (int l = 0; l < p->model.layers; l++)
        for (int e = 0; e < p->model.experts && p->model.moe[l]; e++)
            if (plan_layer_slot(p, l, e) != e)
                return false;
    return plan_slots_alike(p);
}

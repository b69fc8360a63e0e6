/* SPDX-License-Identifier: MIT */
/* The tables of a plan: stages, ranks, groups, experts, schedules. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "plan/axes.h"
#include "plan/schedule.h"
#include "plan/text_read.h"

enum { MOST_COPIES = 4 }; /* slots a layer, for each expert */

static int read_stage(struct reading *d)
{
    struct plan *p = d->p;
    int64_t index, pp, chunk;
    int *layers, count, before = p->stage_count;
    if (!d->seen[ONCE_CONFIG])
        return record_bad(&d->r, "'stage' before 'config'");
    TRY(record_int(&d->r, NULL, 0, MAX_WORLD, &index));
    if (index != before || index >= p->axes.pp * p->axes.vpp)
        return record_bad(&d->r, "stage %lld, where %d of %lld was expected", (long long)index, before,
                          (long long)(p->axes.pp * p->axes.vpp));
    TRY(record_int(&d->r, "pp", 0, p->axes.pp - 1, &pp));
    TRY(record_int(&d->r, "chunk", 0, p->axes.vpp - 1, &chunk));
    TRY(record_list(&d->r, "layers", p->model.layers - 1, p->model.layers, &layers, &count));
    int end = before ? p->stages[before - 1].first + p->stages[before - 1].layers : 0;
    bool run = true;
    for (int i = 1; i < count; i++)
        run = run && layers[i] == layers[0] + i;
    p->stages[p->stage_count++] =
        (struct stage){.pp = (int)pp, .chunk = (int)chunk, .first = count ? layers[0] : end, .layers = count};
    free(layers);
    return run ? 0 : record_bad(&d->r, "the layers of a stage must be one run");
}

static int read_rank(struct reading *d)
{
    struct plan *p = d->p;
    int64_t rank;
    TRY(record_int(&d->r, NULL, 0, p->world - 1, &rank));
    TRY(fields_read(&rank_fields, &d->r, &p->ranks[rank], p));
    if (d->has_rank[rank])
        return record_bad(&d->r, "rank %lld is repeated", (long long)rank);
    d->has_rank[rank] = true;
    d->ranks++;
    return 0;
}

static int read_group(struct reading *d)
{
    struct plan *p = d->p;
    static const struct words kinds = WORDS(group_name);
    int kind, *ranks, count;
    int64_t index;
    TRY(record_choice(&d->r, NULL, &kinds, &kind));
    TRY(record_int(&d->r, NULL, 0, p->world - 1, &index));
    TRY(record_list(&d->r, NULL, p->world - 1, (int64_t)GROUP_KINDS * p->world - d->members, &ranks, &count));
    d->members += count;
    if ((p->group_count & (p->group_count - 1)) == 0)
        p->groups = xrealloc(p->groups, p->group_count ? 2 * (size_t)p->group_count : 1, sizeof *p->groups);
    p->groups[p->group_count++] =
        (struct plan_group){.kind = kind, .index = (int)index, .size = count, .ranks = ranks};
    return count ? 0 : record_bad(&d->r, "a group needs a member");
}

static void add_place(struct reading *d, struct expert_place one)
{
    if (d->place_count == d->place_room) {
        d->place_room = d->place_room ? 2 * d->place_room : 256;
        d->places = xrealloc(d->places, d->place_room, sizeof *d->places);
    }
    d->places[d->place_count++] = one;
}

/* The experts of one ep rank in some layers. What is named more often than there are experts is a replica. */
static int read_expert(struct reading *d)
{
    struct plan *p = d->p;
    const struct model *m = &p->model;
    int64_t ep, most = MOST_COPIES * m->experts;
    int *layers, *ids, layer_count, count, bad = -1;
    if (!d->seen[ONCE_CONFIG])
        return record_bad(&d->r, "'expert' before 'config'");
    TRY(record_int(&d->r, "ep", 0, p->axes.ep - 1, &ep));
    TRY(record_list(&d->r, "layers", m->layers - 1, m->layers, &layers, &layer_count));
    if (record_list(&d->r, "ids", m->experts - 1, most, &ids, &count) < 0) {
        free(layers);
        return -1;
    }
    /* a line of a few bytes can place every expert of the model: not again and again */
    d->named += (int64_t)layer_count * max64(count, 1);
    if (d->named > most * m->layers) {
        free(layers);
        free(ids);
        return record_bad(&d->r, "experts are placed more than %d times over", MOST_COPIES);
    }
    for (int l = 0; l < layer_count && bad < 0; l++) {
        if (!m->moe[layers[l]])
            bad = layers[l];
        for (int i = 0; i < count; i++)
            add_place(d, (struct expert_place){layers[l], (int)ep, ids[i]});
    }
    free(layers);
    free(ids);
    return bad < 0 ? 0 : record_bad(&d->r, "layer %d has no experts", bad);
}

static int read_schedule(struct reading *d)
{
    struct plan *p = d->p;
    int64_t stage;
    TRY(record_int(&d->r, NULL, 0, p->axes.pp - 1, &stage));
    struct program *g = &p->programs[stage];
    if (g->ops)
        return record_bad(&d->r, "schedule %lld is repeated", (long long)stage);
    g->ops = xcalloc(d->r.count, sizeof *g->ops);
    for (struct record_word *w; (w = record_take(&d->r, NULL)); g->count++)
        if (!op_parse(w->value, &g->ops[g->count]))
            return record_bad_word(&d->r, w, "'%.40s' is not an operation; F3 or B0.1 would be", w->value);
    return 0;
}

static const struct {
    const char *kind;
    int (*read)(struct reading *);
} table_reader[] = {{"stage", read_stage},
                    {"rank", read_rank},
                    {"group", read_group},
                    {"expert", read_expert},
                    {"schedule", read_schedule}};

int read_table_record(struct reading *d)
{
    for (size_t i = 0; i < sizeof table_reader / sizeof *table_reader; i++)
        if (strcmp(d->r.kind, table_reader[i].kind) == 0) {
            if (!d->seen[ONCE_AXES])
                return record_bad(&d->r, "'%s' before 'axes'", d->r.kind);
            TRY(table_reader[i].read(d));
            TRY(record_end(&d->r));
            return 1;
        }
    return 0;
}

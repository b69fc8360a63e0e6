/* SPDX-License-Identifier: MIT */
#include "claim/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"
#include "base/ranges.h"
#include "claim/figures.h"

const char *const judgement_name[] = {"holds", "refuted", "undecided"};

/* "1.43%", "283369 /s", "5.40 GB" */
static char *value_text(enum unit unit, double v, char text[static 40])
{
    char bytes[24];
    if (unit == UNIT_BYTES)
        snprintf(text, 40, "%s", human_bytes(v, bytes));
    else if (unit == UNIT_RATIO)
        snprintf(text, 40, "%.3g%%", 100 * v);
    else if (fabs(v) >= 1e4 && fabs(v) < 1e15)
        snprintf(text, 40, "%.0f%s", v, unit == UNIT_RATE ? " /s" : "");
    else
        snprintf(text, 40, "%.4g%s", v, unit == UNIT_SECONDS ? " s" : unit == UNIT_RATE ? " /s" : "");
    return text;
}

/* ---- numbers ---- */

static enum judgement judge_bound(const struct bound *b, const struct known_value *f)
{
    if (f->error <= 0)
        return bound_holds(b, f->value) ? CLAIM_HOLDS : CLAIM_REFUTED;
    double low, high, least = f->value / (1 + f->error), most = f->value * (1 + f->error);
    bound_range(b, &low, &high);
    if (bound_holds(b, least) && bound_holds(b, most))
        return CLAIM_HOLDS;
    return most < low || least > high ? CLAIM_REFUTED : CLAIM_UNDECIDED;
}

static void judge_number(const struct claim *c, enum unit unit, struct judged *j)
{
    char value[40], off[64] = "";
    const struct known_value *f = &j->found;
    if (isnan(f->value)) {
        j->judgement = CLAIM_UNDECIDED;
        snprintf(j->text, sizeof j->text, "%s", f->how);
        return;
    }
    j->judgement = judge_bound(&c->bound, f);
    if (j->judgement == CLAIM_UNDECIDED)
        snprintf(off, sizeof off, "; the formulas may be off by %.0f%%: --log decides", 100 * f->error);
    snprintf(j->text, sizeof j->text, "%s: %s%s", value_text(unit, f->value, value), f->how, off);
}

/* ---- groups ---- */

/* Whether these are the members of group i, in order. */
static bool members_are(const struct claim *c, const struct plan_group *g, int64_t i)
{
    int at = 0;
    for (int k = 0; k < c->range_count; k++) {
        const struct member_range *r = &c->ranges[k];
        int64_t last = r->last + i * r->step_last;
        for (int64_t rank = r->first + i * r->step_first; rank <= last; rank++)
            if (at == g->size || g->ranks[at++] != rank)
                return false;
    }
    return at == g->size;
}

static void judge_group(const struct claim *c, const struct plan *p, struct judged *j)
{
    const struct plan_group *first = NULL, *wrong = NULL;
    int64_t asked = 0;
    for (int i = 0; i < p->group_count; i++) {
        const struct plan_group *g = &p->groups[i];
        if (g->kind != c->group || (c->group_index >= 0 && g->index != c->group_index))
            continue;
        asked++;
        first = first ? first : g;
        if (!wrong && !members_are(c, g, c->group_index < 0 ? g->index : 0))
            wrong = g;
    }
    if (!asked) {
        j->judgement = CLAIM_REFUTED;
        snprintf(j->text, sizeof j->text, "the plan has no such group");
        return;
    }
    const struct plan_group *show = wrong ? wrong : first;
    char *list = ranges_text(show->ranks, show->size);
    j->judgement = wrong ? CLAIM_REFUTED : CLAIM_HOLDS;
    if (wrong || asked == 1)
        snprintf(j->text, sizeof j->text, "group %s %d is %.200s", group_name[show->kind], show->index, list);
    else
        snprintf(j->text, sizeof j->text, "all %lld groups %s are, from %.150s", (long long)asked,
                 group_name[show->kind], list);
    free(list);
}

/* ---- fields of the plan ---- */

/* Whether a word is one of those between bars. */
static bool one_of(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (strncmp(p, word, n) == 0 && (p[n] == '\0' || p[n] == '|'))
            return true;
    }
    return false;
}

static void judge_field(const struct claim *c, const struct plan *p, struct judged *j)
{
    char value[FIELD_VALUE];
    const struct field *f = c->field;
    const void *base = c->record == &model_fields ? (const void *)&p->model : p;
    snprintf(j->text, sizeof j->text, "%s %s of the plan is %s", c->record->kind, f->key,
             field_text(f, base, value));
    if (*c->word) {
        j->judgement = one_of(c->word, value) ? CLAIM_HOLDS : CLAIM_REFUTED;
        return;
    }
    bool whole = f->type == FIELD_INT || f->type == FIELD_COUNTED;
    j->found.value = whole ? (double)field_int(f, base) : field_num(f, base);
    bool unknown = isnan(j->found.value) || (f->type == FIELD_KNOWN && !(j->found.value > 0));
    j->judgement = unknown                                  ? CLAIM_UNDECIDED
                   : bound_holds(&c->bound, j->found.value) ? CLAIM_HOLDS
                                                            : CLAIM_REFUTED;
}

void claims_judge(const struct claims *c, const struct plan *p, const struct summary *log, struct judged *out)
{
    for (int i = 0; i < c->count; i++) {
        const struct claim *x = &c->list[i];
        const struct about about = {p, log, x->arg};
        out[i] = (struct judged){.found = {.value = NAN}};
        if (x->kind == CLAIM_GROUP)
            judge_group(x, p, &out[i]);
        else if (x->kind == CLAIM_FIELD)
            judge_field(x, p, &out[i]);
        else if (x->kind == CLAIM_FIGURE) {
            figure_find_value(&about, x->figure, &out[i].found);
            judge_number(x, x->figure->unit, &out[i]);
        } else {
            x->fact->find(&about, &out[i].found);
            judge_number(x, x->fact->unit, &out[i]);
        }
    }
}

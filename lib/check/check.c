/* SPDX-License-Identifier: MIT */
/* The rules on what a plan lists, and the verdict over all rules. A rule that cannot be asked because an
 * earlier one failed says so. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/words.h"
#include "check/advice.h"
#include "check/check.h"
#include "cost/communicators.h"
#include "cost/fit.h"
#include "cost/messages.h"
#include "cost/predict.h"
#include "cost/simulate.h"
#include "model/config.h"
#include "model/size.h"
#include "plan/fields.h"
#include "plan/layout.h"
#include "plan/schedule.h"
#include "plan/slots.h"

typedef long long ll;
#define say verdict_say

static enum verdict config_match(const struct plan *p, char text[static 400])
{
    const struct model *m = &p->model;
    struct model again;
    uint32_t crc = (uint32_t)crc32_z(0, (const unsigned char *)m->source, m->source_bytes);
    if (crc != m->source_crc32)
        return say(text, VERDICT_FAIL, "the config's crc32 is %08x, not %08x", crc, m->source_crc32);
    if (model_parse(&again, m->source, m->source_bytes, "config") < 0)
        return say(text, VERDICT_FAIL, "%s", error_text());
    enum verdict v = VERDICT_OK;
    char is[FIELD_VALUE], was[FIELD_VALUE];
    for (const struct field *f = model_fields.fields; f->key && v == VERDICT_OK; f++)
        if (f->type != FIELD_TEXT && strcmp(field_text(f, &again, is), field_text(f, m, was)) != 0)
            v = say(text, VERDICT_FAIL, "%s is %s, in the config %s", f->key, was, is);
    model_release(&again);
    if (v != VERDICT_OK)
        return v;
    return say(text, VERDICT_OK, "%s, %lld parameters, crc32 %08x", model_family(m)->type,
               (ll)model_parameters(m), crc);
}

static enum verdict stages_cover(const struct plan *p, char text[static 400])
{
    int64_t pp = p->axes.pp, next = 0;
    if (p->stage_count != pp * p->axes.vpp)
        return say(text, VERDICT_FAIL, "%d stages; pp %lld · vpp %lld is %lld", p->stage_count, (ll)pp,
                   (ll)p->axes.vpp, (ll)(pp * p->axes.vpp));
    for (int i = 0; i < p->stage_count; i++) {
        const struct stage *s = &p->stages[i];
        if (s->pp != i % pp || s->chunk != i / pp)
            return say(text, VERDICT_FAIL,
                       "stage %d is on pp %d as chunk %d; it belongs on pp %lld as chunk %lld", i, s->pp,
                       s->chunk, (ll)(i % pp), (ll)(i / pp));
        if (s->first != next)
            return say(text, VERDICT_FAIL, "stage %d begins with layer %d; %lld is next", i, s->first,
                       (ll)next);
        next += s->layers;
    }
    if (next != p->model.layers)
        return say(text, VERDICT_FAIL, "the stages hold %lld layers; the model has %lld", (ll)next,
                   (ll)p->model.layers);
    return say(text, VERDICT_OK, "%d stages hold %lld layers", p->stage_count, (ll)next);
}

/* ---- ranks and groups, against a layout made from the axes alone ---- */

static struct plan layout_of(const struct plan *p)
{
    struct plan q = *p;
    q.ranks = NULL;
    q.groups = NULL;
    q.group_index = NULL;
    q.group_count = 0;
    layout_make(&q);
    return q;
}

static void layout_drop(struct plan *q)
{
    for (int i = 0; i < q->group_count; i++)
        free(q->groups[i].ranks);
    free(q->groups);
    free(q->group_index);
    free(q->ranks);
}

static enum verdict ranks_coords(const struct plan *p, char text[static 400])
{
    struct plan q = layout_of(p);
    enum verdict v = say(text, VERDICT_OK, "%d ranks stand where %s puts them", p->world, p->axes.order);
    for (int r = 0; r < p->world && v == VERDICT_OK; r++) {
        struct coords is = p->ranks[r], should = q.ranks[r];
        is.node = should.node;
        if (memcmp(&is, &should, sizeof is) != 0)
            v = say(
                text, VERDICT_FAIL,
                "rank %d is at tp %d cp %d dp %d etp %d ep %d edp %d pp %d; %s puts it at %d %d %d %d %d %d %d",
                r, is.tp, is.cp, is.dp, is.etp, is.ep, is.edp, is.pp, p->axes.order, should.tp, should.cp,
                should.dp, should.etp, should.ep, should.edp, should.pp);
    }
    layout_drop(&q);
    return v;
}

static enum verdict nodes_fit(const struct plan *p, char text[static 400])
{
    const struct machine *m = &p->machine;
    int64_t used = 0;
    int *count = xcalloc(m->nodes, sizeof *count);
    enum verdict v = VERDICT_OK;
    for (int r = 0; r < p->world && v == VERDICT_OK; r++) {
        int node = p->ranks[r].node;
        if (node >= m->nodes)
            v = say(text, VERDICT_FAIL, "rank %d is on node %d; %s has %lld nodes", r, node, m->name,
                    (ll)m->nodes);
        else if (++count[node] > m->per_node)
            v = say(text, VERDICT_FAIL, "node %d has more than %lld ranks, rank %d among them", node,
                    (ll)m->per_node, r);
        else
            used += count[node] == 1;
    }
    free(count);
    return v ? v
             : say(text, v, "%d ranks on %lld of %lld nodes, at most %lld each", p->world, (ll)used,
                   (ll)m->nodes, (ll)m->per_node);
}

/* Every rank once in each kind of group that the plan must have. */
static enum verdict groups_partition(const struct plan *p, char text[static 400])
{
    struct plan q = layout_of(p);
    bool need[GROUP_KINDS] = {false};
    char *times = xcalloc((size_t)GROUP_KINDS * p->world, 1);
    enum verdict v = say(text, VERDICT_OK, "%d groups; every rank in one of each kind", p->group_count);
    for (int i = 0; i < q.group_count; i++)
        need[q.groups[i].kind] = true;
    for (int i = 0; i < p->group_count && v == VERDICT_OK; i++) {
        const struct plan_group *g = &p->groups[i];
        if (!need[g->kind])
            v = say(text, VERDICT_FAIL, "group %s %d: this layout has no such groups", group_name[g->kind],
                    g->index);
        for (int k = 0; k < g->size && v == VERDICT_OK; k++)
            if (times[(int64_t)g->kind * p->world + g->ranks[k]]++)
                v = say(text, VERDICT_FAIL, "rank %d is in two groups, or twice in one, of kind %s (%s %d)",
                        g->ranks[k], group_name[g->kind], group_name[g->kind], g->index);
    }
    for (int kind = 0; kind < GROUP_KINDS && v == VERDICT_OK; kind++)
        for (int r = 0; r < p->world && v == VERDICT_OK; r++)
            if (q.group_index[(int64_t)kind * p->world + r] >= 0 && !times[(int64_t)kind * p->world + r])
                v = say(text, VERDICT_FAIL, "rank %d is in no group of kind %s", r, group_name[kind]);
    free(times);
    layout_drop(&q);
    return v;
}

static enum verdict groups_coords(const struct plan *p, char text[static 400])
{
    struct plan q = layout_of(p);
    enum verdict v =
        say(text, VERDICT_OK, "%d groups have the members that the coordinates say, in order", p->group_count);
    int *found = xcalloc(q.group_count, sizeof *found), first[GROUP_KINDS], count[GROUP_KINDS] = {0};
    for (int i = q.group_count - 1; i >= 0; i--) {
        first[q.groups[i].kind] = i;
        count[q.groups[i].kind]++;
    }
    for (int i = 0; i < p->group_count && v == VERDICT_OK; i++) {
        const struct plan_group *g = &p->groups[i];
        if (g->index >= count[g->kind]) {
            v = say(text, VERDICT_FAIL, "group %s %d: there are %d of the kind", group_name[g->kind], g->index,
                    count[g->kind]);
            continue;
        }
        const struct plan_group *should = &q.groups[first[g->kind] + g->index];
        if (found[first[g->kind] + g->index]++)
            v = say(text, VERDICT_FAIL, "group %s %d is repeated", group_name[g->kind], g->index);
        else if (g->size != should->size)
            v = say(text, VERDICT_FAIL, "group %s %d has %d members; the axes say %d", group_name[g->kind],
                    g->index, g->size, should->size);
        for (int k = 0; k < g->size && v == VERDICT_OK; k++)
            if (g->ranks[k] != should->ranks[k])
                v = say(text, VERDICT_FAIL, "group %s %d has rank %d as member %d; the coordinates say rank %d",
                        group_name[g->kind], g->index, g->ranks[k], k, should->ranks[k]);
    }
    for (int i = 0; i < q.group_count && v == VERDICT_OK; i++)
        if (!found[i])
            v = say(text, VERDICT_FAIL, "group %s %d is missing", group_name[q.groups[i].kind],
                    q.groups[i].index);
    free(found);
    layout_drop(&q);
    return v;
}

static enum verdict layer_placed(const struct plan *p, int l, char text[static 400])
{
    int64_t first, slots = plan_layer_slots(p, l);
    for (int e = 0; e < p->model.experts; e++)
        if (plan_layer_slot(p, l, e) < 0)
            return say(text, VERDICT_FAIL, "layer %d: expert %d has no slot (is another listed twice?)", l, e);
    for (int64_t i = 0; i < p->axes.ep; i++)
        if (plan_slots(p, l, i, &first) == 0)
            return say(text, VERDICT_FAIL, "layer %d: ep rank %lld has no expert", l, (ll)i);
    if (slots == p->slots.most)
        return VERDICT_OK;
    return say(text, VERDICT_FAIL, "layer %d: %lld slots, and another layer has %d", l, (ll)slots,
               p->slots.most);
}

static enum verdict experts_placed(const struct plan *p, char text[static 400])
{
    const struct model *m = &p->model;
    ll least = plan_least_slots(p), most = plan_most_slots(p), more = plan_replicas(p);
    char each[60];
    for (int l = 0; l < m->layers; l++)
        if (m->moe[l] && layer_placed(p, l, text) != VERDICT_OK)
            return VERDICT_FAIL;
    snprintf(each, sizeof each, least == most ? "%lld" : "%lld to %lld", least, most);
    if (more)
        return say(text, VERDICT_OK,
                   "%lld experts in each of %lld layers, with %lld replicas, %s slots an ep rank",
                   (ll)m->experts, (ll)m->moe_layers, more, each);
    return say(text, VERDICT_OK, "%lld experts in each of %lld layers, one a slot, %s slots an ep rank",
               (ll)m->experts, (ll)m->moe_layers, each);
}

/* ---- the schedule ---- */

static enum verdict schedule_complete(const struct plan *p, char text[static 400])
{
    int64_t ops = 0;
    bool split = false;
    if (plan_programs_complete(p) < 0)
        return say(text, VERDICT_FAIL, "%s", error_text());
    for (int i = 0; i < p->axes.pp; i++) {
        ops += p->programs[i].count;
        split = split || program_splits_backward(&p->programs[i]);
    }
    if (split && p->training.recompute != RECOMPUTE_NONE)
        return say(text, VERDICT_FAIL, "W operations need recompute none, not %s",
                   recompute_name[p->training.recompute]);
    return say(text, VERDICT_OK, "%lld operations, each once", (ll)ops);
}

static enum verdict schedule_deadlock_free(const struct plan *p, char text[static 400])
{
    struct simulation s;
    if (plan_simulate(p, 1, 1, 1, &s) < 0)
        return say(text, VERDICT_FAIL, "%s", error_text());
    enum verdict v =
        say(text, VERDICT_OK, "%s ends; bubble %.2f%% at F = B/2", plan_schedule(p)->name, 100 * s.bubble);
    simulation_release(&s);
    return v;
}

static enum verdict messages_in_order(const struct plan *p, char text[static 400])
{
    struct stage_queue *queues = xcalloc(p->axes.pp, sizeof *queues);
    enum verdict v = VERDICT_FAIL;
    if (messages_make(p, queues) == 0 && messages_prove(p, queues) == 0)
        v = VERDICT_OK;
    ll sides = 0;
    for (int i = 0; i < p->axes.pp; i++)
        sides += queues[i].count;
    messages_release(queues, p->axes.pp);
    free(queues);
    if (v != VERDICT_OK)
        return say(text, v, "%s", error_text());
    if (sides == 0)
        return say(text, v, "one stage sends no messages");
    return say(text, v, "%lld messages between stages end, each side waiting for the other", sides / 2);
}

static enum verdict schedule_in_flight(const struct plan *p, char text[static 400])
{
    struct simulation s;
    if (plan_simulate(p, 1, 1, 1, &s) < 0)
        return say(text, VERDICT_FAIL, "%s", error_text());
    enum verdict v = say(text, VERDICT_OK, "at most %d microbatch%s a stage", s.max_in_flight,
                         p->axes.vpp > 1 ? "·chunks" : "es");
    const struct schedule *named = plan_schedule(p);
    for (int i = 0; i < p->axes.pp && v == VERDICT_OK; i++) {
        int64_t most = named->in_flight(plan_pipe(p, i));
        if (s.in_flight[i] > most)
            v = say(text, VERDICT_FAIL, "stage %d holds %d at once; %s promises %lld", i, s.in_flight[i],
                    named->name, (ll)most);
    }
    simulation_release(&s);
    return v;
}

/* ---- predictions ---- */

/* What the version that made the plan did not compute, or this one does not, the other may say. */
static bool differ(double is, double was, bool other_version, double tolerance)
{
    if (isnan(is) || isnan(was))
        return !other_version && isnan(is) != isnan(was);
    return !(fabs(is - was) <= tolerance * fabs(is));
}

/* What follows from cost/seconds.h. */
static bool of_seconds(const char *key)
{
    static const char *const keys[] = {"step_s", "step_skewed_s", "tokens_per_s", "mfu", "hfu", NULL};
    const struct words words = WORDS(keys);
    return word_index(&words, key) >= 0;
}

static bool of_memory(const char *key)
{
    size_t n = strlen(key);
    return (n > 6 && strcmp(key + n - 6, "_bytes") == 0) || strcmp(key, "memory_rank") == 0;
}

/* Names the version that counted, and is no figure. */
static bool of_version(const char *key)
{
    return strcmp(key, "arena") == 0 || strcmp(key, "seconds") == 0;
}

/* Whether the figure is not what comes out now. */
static bool figure_differs(const struct field *f, const struct plan *is, const struct plan *was,
                           bool other_version)
{
    if (of_version(f->key))
        return false;
    if (f->type == FIELD_INT)
        return field_int(f, is) != field_int(f, was);
    bool whole = of_memory(f->key) || strcmp(f->key, "flops_per_token") == 0; /* the same on every machine */
    return differ(field_num(f, is), field_num(f, was), other_version, whole ? 0 : 1e-9);
}

static enum verdict predict_matches(const struct plan *p, char text[static 400])
{
    struct plan q = *p; /* only its predict changes */
    const struct predict *is = &q.predict, *was = &p->predict;
    const struct field *counted = NULL; /* in another way: memory-fits goes by what the plan says */
    char here[FIELD_VALUE], there[FIELD_VALUE];
    if (plan_predict(&q) < 0)
        return say(text, VERDICT_FAIL, "%s", error_text());
    if (was->memory_rank < 0 || was->memory_rank >= p->world)
        return say(text, VERDICT_FAIL, "memory_rank is %d; the plan says %d, and has %d ranks", is->memory_rank,
                   was->memory_rank, p->world);
    for (const struct field *f = predict_fields.fields; f->key; f++) {
        bool memory = of_memory(f->key) && was->arena != is->arena, formulas = was->seconds != is->seconds;
        if (!figure_differs(f, &q, p, of_memory(f->key) ? memory : formulas))
            continue;
        field_text(f, &q, here);
        field_text(f, p, there);
        if (memory)
            counted = counted ? counted : f;
        else if (of_seconds(f->key) && formulas)
            return say(text, VERDICT_WARN, "%s is %s; the plan says %s, by the formulas of another moekit",
                       f->key, here, there);
        else
            return say(text, VERDICT_FAIL, "%s is %s; the plan says %s", f->key, here, there);
    }
    if (counted)
        return say(text, plan_fits(&q) ? VERDICT_WARN : VERDICT_FAIL,
                   "%s is %s; the plan says %s, which another moekit counted (arena %d, not %d)", counted->key,
                   field_text(counted, &q, here), field_text(counted, p, there), was->arena, is->arena);
    return say(text, VERDICT_OK, "memory,%s flops and bubble come out the same",
               isnan(is->step_s) ? "" : " seconds,");
}

static enum verdict memory_fits(const struct plan *p, char text[static 400])
{
    char needs[24], has[24], nccl[24], beside[60] = "";
    double need = needed_bytes(&p->predict), have = p->machine.memory_bytes;
    human_bytes(need, needs);
    human_bytes(have, has);
    if (p->predict.communicator_bytes > 0)
        snprintf(beside, sizeof beside, ", communicators' %s among them",
                 human_bytes(p->predict.communicator_bytes, nccl));
    if (!(have > 0))
        return say(text, VERDICT_OK, "rank %d needs %s%s; the memory of %s is not known",
                   p->predict.memory_rank, needs, beside, p->machine.name);
    return say(text, plan_fits(p) ? VERDICT_OK : VERDICT_FAIL, "rank %d needs %s of %s, %.1f%%%s",
               p->predict.memory_rank, needs, has, 100 * need / have, beside);
}

static const struct rule listed_rules[] = {
    {"config-match", "the model's figures are those of the config, the config is unchanged", config_match,
     NEEDS_NOTHING},
    {"stages-cover", "the virtual stages hold every layer once, in order, each on its pipeline rank",
     stages_cover, NEEDS_NOTHING},
    {"ranks-coords", "every rank's coordinates are those that the order gives it", ranks_coords, NEEDS_AXES},
    {"groups-partition", "every rank is in exactly one group of each kind", groups_partition, NEEDS_AXES},
    {"groups-coords", "every group has the members that the coordinates say, in order", groups_coords,
     NEEDS_AXES},
    {"nodes-fit", "no node has more ranks than the machine gives it", nodes_fit, NEEDS_NOTHING},
    {"experts-placed-once", "every expert of every layer has a slot, and replicas no layer more than another",
     experts_placed, NEEDS_NOTHING},
    {"schedule-complete",
     "every microbatch has one F, one B and, where it is split, one W on every virtual stage",
     schedule_complete, NEEDS_NOTHING},
    {"schedule-deadlock-free", "played with what each operation waits for, all programs end",
     schedule_deadlock_free, NEEDS_NOTHING},
    {"messages-in-order",
     "stages' messages match in order and cannot deadlock, though a send waits for its receive",
     messages_in_order, NEEDS_NOTHING},
    {"schedule-in-flight", "no stage holds more microbatches than the named schedule promises",
     schedule_in_flight, NEEDS_NOTHING},
    {"predict-matches", "memory, seconds, flops and bubble, computed again, are those of the plan",
     predict_matches, NEEDS_ALL},
    {"memory-fits", "the worst rank's memory, at the plan's lambda, is within the machine's", memory_fits,
     NEEDS_NOTHING},
};
enum { LISTED_RULES = sizeof listed_rules / sizeof *listed_rules };

const struct rule *rule_at(int i)
{
    if (i < shape_rule_count)
        return &shape_rules[i];
    i -= shape_rule_count;
    if (i < LISTED_RULES)
        return &listed_rules[i];
    i -= LISTED_RULES;
    return i < advice_rule_count ? &advice_rules[i] : NULL;
}

/* ---- the verdict ---- */

static bool is_axes_rule(const char *id)
{
    return strncmp(id, "axes-", 5) == 0 || strcmp(id, "kv-heads-divide") == 0;
}

static void ask(const struct plan *p, const struct rule *rule, struct findings *out)
{
    struct finding *f = &out->list[out->count];
    const char *obstacle = NULL;
    for (int i = 0; i < out->count && !obstacle; i++)
        if (out->list[i].verdict == VERDICT_FAIL && strcmp(out->list[i].rule, "memory-fits") != 0 &&
            (rule->needs == NEEDS_ALL || (rule->needs == NEEDS_AXES && is_axes_rule(out->list[i].rule))))
            obstacle = out->list[i].rule;
    f->rule = rule->id;
    if (obstacle)
        f->verdict = say(f->text, VERDICT_WARN, "not asked, because %s fails", obstacle);
    else
        f->verdict = rule->check(p, f->text);
    out->count++;
    out->fails += f->verdict == VERDICT_FAIL;
    out->warns += f->verdict == VERDICT_WARN;
}

/* A plan that only does not fit is told what would: others cannot be laid out anew. */
static void advise(const struct plan *p, struct finding *f)
{
    char advice[400], said[sizeof f->text];
    if (f->verdict != VERDICT_FAIL || strcmp(f->rule, "memory-fits") != 0)
        return;
    fit_advice(p, p->predict.memory_rank, arena_room(p), advice);
    memcpy(said, f->text, sizeof said);
    if (*advice)
        say(f->text, VERDICT_FAIL, "%.100s; %s", said, advice);
}

static void ask_all(const struct plan *p, bool advice, struct findings *out)
{
    int most = shape_rule_count + LISTED_RULES + advice_rule_count;
    const struct rule *rule;
    *out = (struct findings){.list = xcalloc(most, sizeof *out->list)};
    for (int i = 0; (rule = rule_at(i)); i++)
        if (advice || !rule->advice)
            ask(p, rule, out);
    for (int i = 0; i < out->count && out->fails == 1; i++)
        advise(p, &out->list[i]);
}

void plan_check(const struct plan *p, struct findings *out)
{
    ask_all(p, true, out);
}

void plan_prove(const struct plan *p, struct findings *out)
{
    ask_all(p, false, out);
}

void findings_release(struct findings *f)
{
    free(f->list);
    *f = (struct findings){0};
}

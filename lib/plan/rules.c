/* SPDX-License-Identifier: MIT */
#include "plan/rules.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "plan/axes.h"
#include "plan/schedule.h"
#include "plan/slots.h"

typedef long long ll;
#define say verdict_say

enum verdict verdict_say(char text[static 400], enum verdict v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, 400, fmt, ap);
    va_end(ap);
    return v;
}

/* whole % part == 0, told in the words given. */
static enum verdict divides(char text[static 400], const char *what, int64_t whole, const char *axis,
                            int64_t part)
{
    char list[80];
    if (whole % part == 0)
        return say(text, VERDICT_OK, "%s %lld / %s %lld = %lld", what, (ll)whole, axis, (ll)part,
                   (ll)(whole / part));
    near_divisors(list, sizeof list, whole, part);
    return say(text, VERDICT_FAIL, "%s %lld is not divisible by %s %lld; %s %s would do", what, (ll)whole, axis,
               (ll)part, axis, list);
}

static enum verdict factors(char text[static 400], const char *const names[4], const int64_t v[4], int world)
{
    int64_t product = 1;
    bool fits = true;
    for (int i = 0; i < 4; i++)
        fits = fits && v[i] >= 1 && mul_ok(product, v[i], &product);
    bool ok = fits && product == world;
    return say(text, ok ? VERDICT_OK : VERDICT_FAIL, "%s %lld · %s %lld · %s %lld · %s %lld is %s%d ranks",
               names[0], (ll)v[0], names[1], (ll)v[1], names[2], (ll)v[2], names[3], (ll)v[3], ok ? "" : "not ",
               world);
}

static enum verdict axes_order(const struct plan *p, char text[static 400])
{
    enum axis order[AXES];
    if (order_parse(p->axes.order, order) < 0)
        return say(text, VERDICT_FAIL, "order '%s' must name tp, cp, ep, dp and pp once each", p->axes.order);
    return say(text, VERDICT_OK, "%s", p->axes.order);
}

static enum verdict axes_dense(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    return factors(text, (const char *const[]){"tp", "cp", "dp", "pp"}, (int64_t[]){a->tp, a->cp, a->dp, a->pp},
                   p->world);
}

static enum verdict axes_expert(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    return factors(text, (const char *const[]){"etp", "ep", "edp", "pp"},
                   (int64_t[]){a->etp, a->ep, a->edp, a->pp}, p->world);
}

static enum verdict axes_pipeline(const struct plan *p, char text[static 400])
{
    enum axis order[AXES];
    int64_t dense[AXES], expert[AXES];
    if (order_parse(p->axes.order, order) < 0)
        return say(text, VERDICT_FAIL, "order '%s' is not valid", p->axes.order);
    dense_sizes(&p->axes, dense);
    expert_sizes(&p->axes, expert);
    int64_t d = axis_stride(order, dense, AXIS_PP), e = axis_stride(order, expert, AXIS_PP);
    if (p->axes.pp == 1 || d == e)
        return say(text, VERDICT_OK, "dense and expert part cut the same pipeline groups");
    return say(text, VERDICT_FAIL,
               "order '%s' puts pipeline ranks %lld apart in the dense part and %lld in the expert part; "
               "an order that ends in pp would do",
               p->axes.order, (ll)d, (ll)e);
}

static enum verdict heads_divide(const struct plan *p, char text[static 400])
{
    if (memchr(p->model.mixer, MIX_LINEAR, (size_t)p->model.layers) && p->model.linear.key_heads % p->axes.tp)
        return divides(text, "heads of linear attention", p->model.linear.key_heads, "tp", p->axes.tp);
    return divides(text, "attention heads", p->model.heads, "tp", p->axes.tp);
}

static enum verdict kv_heads_divide(const struct plan *p, char text[static 400])
{
    int64_t kv = p->model.kv_heads, tp = p->axes.tp;
    if (tp > kv && tp % kv == 0)
        return say(text, VERDICT_OK, "each of %lld key/value heads on %lld of tp %lld ranks", (ll)kv,
                   (ll)(tp / kv), (ll)tp);
    if (tp > kv)
        return say(text, VERDICT_FAIL,
                   "tp %lld is not a multiple of %lld key/value heads; tp %lld or %lld would do", (ll)tp,
                   (ll)kv, (ll)(tp / kv * kv), (ll)(ceil_div(tp, kv) * kv));
    return divides(text, "key/value heads", kv, "tp", tp);
}

static enum verdict ffn_divide(const struct plan *p, char text[static 400])
{
    const struct model *m = &p->model;
    int64_t tp = p->axes.tp;
    if (m->shared_ffn && m->shared_ffn % tp)
        return divides(text, "shared expert width", m->shared_ffn, "tp", tp);
    if (m->moe_layers < m->layers)
        return divides(text, "dense layer width", m->dense_ffn, "tp", tp);
    if (m->shared_ffn)
        return divides(text, "shared expert width", m->shared_ffn, "tp", tp);
    return say(text, VERDICT_OK, "no dense layer, no shared expert");
}

static enum verdict expert_ffn_divide(const struct plan *p, char text[static 400])
{
    return divides(text, "expert width", p->model.expert_ffn, "etp", p->axes.etp);
}

static enum verdict experts_divide(const struct plan *p, char text[static 400])
{
    const struct model *m = &p->model;
    if (m->experts > INT16_MAX || m->layers * m->experts > MAX_EXPERT_SLOTS)
        return say(text, VERDICT_FAIL, "%lld experts in %lld layers are too many", (ll)m->experts,
                   (ll)m->layers);
    if (!m->moe_layers && p->axes.ep * p->axes.etp > 1)
        return say(text, VERDICT_FAIL, "a model without experts takes ep 1 and etp 1, not ep %lld and etp %lld",
                   (ll)p->axes.ep, (ll)p->axes.etp);
    if (!m->experts)
        return divides(text, "experts", 0, "ep", p->axes.ep);
    int64_t most = plan_most_slots(p), least = plan_least_slots(p);
    char list[80];
    near_divisors(list, sizeof list, m->experts, p->axes.ep);
    if (p->axes.ep > m->experts)
        return say(text, VERDICT_FAIL, "%lld experts over ep %lld: some ranks would have none; ep %s would do",
                   (ll)m->experts, (ll)p->axes.ep, list);
    if (most == least)
        return say(text, VERDICT_OK, "experts %lld / ep %lld = %lld", (ll)m->experts, (ll)p->axes.ep, (ll)most);
    return say(
        text, VERDICT_WARN,
        "%lld experts over ep %lld: %lld to %lld a rank, and the fullest has %.2f times the mean to do; ep "
        "%s would be even",
        (ll)m->experts, (ll)p->axes.ep, (ll)least, (ll)most, plan_unevenness(p), list);
}

static enum verdict vocab_divide(const struct plan *p, char text[static 400])
{
    int64_t v = p->model.vocab, tp = p->axes.tp;
    return say(text, v < tp ? VERDICT_FAIL : VERDICT_OK, "vocabulary %lld over tp %lld%s", (ll)v, (ll)tp,
               v < tp ? ": a rank would have none" : "");
}

/* The whole tp·cp group works on one microbatch: each rank on the same number of its tokens. */
static enum verdict tokens_divide(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    const struct batch *b = &p->batch;
    int64_t group = a->tp * a->cp, tokens;
    if (!mul_ok(b->seq, b->micro, &tokens) || tokens > INT32_MAX)
        return say(text, VERDICT_FAIL, "seq %lld · micro-batch %lld is more than %d tokens", (ll)b->seq,
                   (ll)b->micro, INT32_MAX);
    if (b->seq % a->cp)
        return divides(text, "seq", b->seq, "cp", a->cp);
    if (tokens % group)
        return say(text, VERDICT_FAIL,
                   "seq %lld · micro-batch %lld = %lld tokens are not divisible by tp %lld · cp %lld; seq "
                   "%lld would do",
                   (ll)b->seq, (ll)b->micro, (ll)tokens, (ll)a->tp, (ll)a->cp, (ll)round_up(b->seq, group));
    return say(text, VERDICT_OK, "seq %lld · micro-batch %lld / (tp %lld · cp %lld) = %lld tokens a rank",
               (ll)b->seq, (ll)b->micro, (ll)a->tp, (ll)a->cp, (ll)(tokens / group));
}

static enum verdict batch_divide(const struct plan *p, char text[static 400])
{
    const struct batch *b = &p->batch;
    int64_t each = b->micro * p->axes.dp;
    if (b->global % each) {
        int64_t below = b->global / each * each;
        char low[40] = "";
        if (below)
            snprintf(low, sizeof low, "%lld or ", (ll)below);
        return say(text, VERDICT_FAIL,
                   "global batch %lld is not divisible by micro-batch %lld · dp %lld = %lld; %s%lld would do",
                   (ll)b->global, (ll)b->micro, (ll)p->axes.dp, (ll)each, low, (ll)(below + each));
    }
    if (b->microbatches != b->global / each)
        return say(text, VERDICT_FAIL,
                   "global batch %lld / (micro-batch %lld · dp %lld) is %lld microbatches, not %lld",
                   (ll)b->global, (ll)b->micro, (ll)p->axes.dp, (ll)(b->global / each), (ll)b->microbatches);
    return say(text, VERDICT_OK, "global batch %lld / (micro-batch %lld · dp %lld) = %lld microbatches",
               (ll)b->global, (ll)b->micro, (ll)p->axes.dp, (ll)b->microbatches);
}

static enum verdict schedule_fits(const struct plan *p, char text[static 400])
{
    const struct axes *a = &p->axes;
    const struct schedule *s = plan_schedule(p);
    int64_t m = p->batch.microbatches, ops;
    char why[400];
    if (a->vpp > 1 && a->pp == 1)
        return say(text, VERDICT_FAIL, "vpp %lld needs pp above 1", (ll)a->vpp);
    if (a->vpp > 1 && !s->chunks)
        return say(text, VERDICT_FAIL, "schedule %s takes vpp 1, not %lld; %s takes more", s->name, (ll)a->vpp,
                   schedules[schedule_default(a->vpp)].name);
    if (a->vpp == 1 && s->chunks)
        return say(text, VERDICT_FAIL, "schedule %s needs vpp above 1; %s takes vpp 1", s->name,
                   schedules[schedule_default(1)].name);
    if (s->splits && p->training.recompute != RECOMPUTE_NONE)
        return say(text, VERDICT_FAIL, "schedule %s needs recompute none, not %s", s->name,
                   recompute_name[p->training.recompute]);
    if (s->fits && !s->fits(p, why))
        return say(text, VERDICT_FAIL, "schedule %s: %.300s", s->name, why);
    if (!mul_ok(3 * m, a->vpp * a->pp, &ops) || ops > 1 << 24)
        return say(text, VERDICT_FAIL, "%lld microbatches over %lld virtual stages are too many operations",
                   (ll)m, (ll)(a->vpp * a->pp));
    return say(text, VERDICT_OK, "%s with pp %lld, vpp %lld, %lld microbatches", s->name, (ll)a->pp, (ll)a->vpp,
               (ll)m);
}

static enum verdict zero_level(const struct plan *p, char text[static 400])
{
    int z = p->training.zero;
    return say(text, z >= 0 && z <= 3 ? VERDICT_OK : VERDICT_FAIL, "zero %d%s", z,
               z >= 0 && z <= 3 ? "" : " is not 0, 1, 2 or 3");
}

static enum verdict routing_values(const struct plan *p, char text[static 400])
{
    const struct routing *r = &p->routing;
    if (!(r->lambda >= 1) || !(r->lambda <= 1e6))
        return say(text, VERDICT_FAIL, "lambda %g: the worst rank has at least the mean, so 1 or more",
                   r->lambda);
    if (!(r->capacity >= 0) || !(r->capacity <= 1e6))
        return say(text, VERDICT_FAIL, "capacity factor %g must be positive", r->capacity);
    return say(text, VERDICT_OK, r->capacity > 0 ? "lambda %g, capacity factor %g" : "lambda %g, dropless",
               r->lambda, r->capacity);
}

#define SHAPE(id, proves, check)                                                                               \
    {                                                                                                          \
        id, proves, check, NEEDS_NOTHING                                                                       \
    }
const struct rule shape_rules[] = {
    SHAPE("axes-order", "the order names each axis once", axes_order),
    SHAPE("axes-dense", "tp·cp·dp·pp is the number of ranks", axes_dense),
    SHAPE("axes-expert", "etp·ep·edp·pp is the number of ranks", axes_expert),
    SHAPE("axes-pipeline", "the dense and the expert part cut the same pipeline groups", axes_pipeline),
    SHAPE("heads-divide", "every tp rank has the same number of attention heads", heads_divide),
    SHAPE("kv-heads-divide", "key/value heads divide over tp, or tp over them", kv_heads_divide),
    SHAPE("ffn-divide", "the widths of dense layers and shared experts divide over tp", ffn_divide),
    SHAPE("expert-ffn-divide", "the experts' width divides over etp", expert_ffn_divide),
    SHAPE("experts-divide", "every ep rank has experts, and as many as the others (else a warning)",
          experts_divide),
    SHAPE("vocab-divide", "every tp rank has a part of the vocabulary", vocab_divide),
    SHAPE("tokens-divide", "the tokens of a microbatch divide over tp·cp (sequence parallelism)",
          tokens_divide),
    SHAPE("batch-divide", "every dp rank has the same whole number of microbatches", batch_divide),
    SHAPE("schedule-fits", "the schedule takes this pp, vpp, number of microbatches and recomputation",
          schedule_fits),
    SHAPE("zero-level", "zero is 0, 1, 2 or 3", zero_level),
    SHAPE("routing-values", "lambda is at least 1, the capacity factor positive", routing_values),
};
const int shape_rule_count = sizeof shape_rules / sizeof *shape_rules;

int shape_legal(const struct plan *p)
{
    char text[400];
    for (int i = 0; i < shape_rule_count; i++)
        if (shape_rules[i].check(p, text) == VERDICT_FAIL)
            return error(STATUS_USAGE, "rule %s: %s", shape_rules[i].id, text);
    return 0;
}

/* SPDX-License-Identifier: MIT */
#include "emit/deepspeed.h"

#include <stdarg.h>

#include "base/error.h"
#include "base/json.h"
#include "emit/target.h"
#include "plan/rules.h"
#include "plan/schedule.h"

typedef long long ll;

/* With its topology pipe, data, model, the last fastest, expert groups are
 *   etp = tp (enable_expert_tensor_parallelism): ep members in turn of each data-parallel group
 *   etp = 1: ep neighbours in turn
 * which is where the order tp-cp-ep-dp-pp puts them. */
static int check_groups(const struct plan *p)
{
    const struct axes *a = &p->axes;
    if (a->cp > 1)
        return error(STATUS_USAGE, "DeepSpeed has no groups of context parallelism: the plan has cp %lld",
                     (ll)a->cp);
    if (!stands_by(p, "tp-cp-ep-dp-pp"))
        return error(STATUS_USAGE,
                     "DeepSpeed orders ranks as tp, dp, pp, the plan as %s: its groups would be others",
                     a->order);
    if (a->etp != 1 && a->etp != a->tp)
        return error(STATUS_USAGE, "DeepSpeed has etp 1 or tp, %lld, not %lld", (ll)a->tp, (ll)a->etp);
    if (a->pp > 1 && p->training.zero > 1)
        return error(STATUS_USAGE,
                     "DeepSpeed's pipeline takes ZeRO 0 or 1: the memory of zero %d cannot be had",
                     p->training.zero);
    return 0;
}

static void note(json_t *notes, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void note(json_t *notes, const char *fmt, ...)
{
    char text[300];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    json_array_append_new(notes, json_bytes(text));
}

static json_t *notes_of(const struct plan *p)
{
    json_t *notes = json_array();
    const struct axes *a = &p->axes;
    note(notes, "# %s on %d ranks of %s: written by moe-partition emit deepspeed", p->model.name, p->world,
         p->machine.name);
    note(notes,
         "# members that begin with # are not DeepSpeed's: #moe are arguments of deepspeed.moe.layer.MoE, "
         "#groups what it forms");
    note(notes, "# tensor parallelism is the model's: tp %lld is its mpu's", (ll)a->tp);
    if (a->pp > 1)
        note(notes, "# pp %lld is PipelineModule's (num_stages, partition_method); it runs 1F1B, the plan %s",
             (ll)a->pp, plan_schedule(p)->name);
    if (a->vpp > 1)
        note(notes, "# its pipeline has one virtual stage a rank, the plan %lld: more of it is idle",
             (ll)a->vpp);
    if (!even_layers(p) && a->vpp == 1)
        note(notes, "# its stages take the layers that partition_method gives them; the plan's are uneven");
    if (p->routing.capacity > 0)
        note(notes,
             "# its capacity is max(min_capacity, ceil(tokens/experts * factor * k)) of the rank's own tokens, "
             "and kept weights are renormalised after a drop");
    if (p->training.recompute != RECOMPUTE_NONE)
        note(notes, "# recompute %s is the model's (deepspeed.checkpointing)",
             recompute_name[p->training.recompute]);
    if (p->training.precision == PRECISION_FP8)
        note(notes, "# fp8 is the model's");
    if (p->training.moment_bf16)
        note(notes, "# moments are kept in float32");
    if (p->training.dispatcher != DISPATCHER_ALLTOALL)
        note(notes, "# it dispatches by all-to-all, the plan by %s", dispatcher_name[p->training.dispatcher]);
    if (p->model.moe_layers && !experts_in_order(p))
        note(notes, "# experts lie in order of their numbers there; the plan has them placed otherwise");
    return notes;
}

static json_t *moe_of(const struct plan *p)
{
    const struct model *m = &p->model;
    bool drops = p->routing.capacity > 0;
    return json_pack("{sI sI sI sI sf si sb sb sb}", "hidden_size", (json_int_t)m->hidden, "num_experts",
                     (json_int_t)m->experts, "ep_size", (json_int_t)p->axes.ep, "k", (json_int_t)m->top_k,
                     "capacity_factor", drops ? p->routing.capacity : 1.0, "min_capacity", 0, "drop_tokens",
                     (int)drops, "use_rts", 0, "enable_expert_tensor_parallelism", (int)(p->axes.etp > 1));
}

static json_t *groups_of(const struct plan *p)
{
    static const enum group_kind kinds[] = {GROUP_TP, GROUP_DP, GROUP_PP, GROUP_EP, GROUP_EDP};
    json_t *all = json_object();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        json_t *list = json_array();
        for (int i = 0; i < p->group_count; i++) {
            const struct plan_group *g = &p->groups[i];
            json_t *ranks = g->kind == kinds[k] ? json_array() : NULL;
            for (int n = 0; ranks && n < g->size; n++)
                json_array_append_new(ranks, json_integer(g->ranks[n]));
            if (ranks)
                json_array_append_new(list, ranks);
        }
        json_object_set_new(all, group_name[kinds[k]], list);
    }
    return all;
}

int plan_write_deepspeed(const struct plan *p, FILE *f)
{
    const struct training *t = &p->training;
    TRY(shape_legal(p)); /* the arithmetic below trusts it */
    TRY(check_groups(p));
    json_t *all =
        json_pack("{so sI sI sI s{sb} s{si sb} s{ss}}", "#", notes_of(p), "train_batch_size",
                  (json_int_t)p->batch.global, "train_micro_batch_size_per_gpu", (json_int_t)p->batch.micro,
                  "gradient_accumulation_steps", (json_int_t)p->batch.microbatches, "bf16", "enabled",
                  (int)(t->precision != PRECISION_F32), "zero_optimization", "stage", t->zero, "overlap_comm",
                  (int)t->overlap, "data_types", "grad_accum_dtype", t->grad_bf16 ? "bf16" : "fp32");
    if (p->model.moe_layers)
        json_object_set_new(all, "#moe", moe_of(p));
    json_object_set_new(all, "#groups", groups_of(p));
    for (int i = 0; i < 2 && t->bucket_bytes; i++)
        json_object_set_new(json_object_get(all, "zero_optimization"),
                            i ? "allgather_bucket_size" : "reduce_bucket_size",
                            json_integer(t->bucket_bytes / (t->grad_bf16 ? 2 : 4)));
    int r = json_dumpf(all, f, JSON_INDENT(1) | JSON_ENSURE_ASCII) < 0 || fputc('\n', f) < 0
                ? error_errno("cannot write the configuration")
                : 0;
    json_decref(all);
    return r;
}

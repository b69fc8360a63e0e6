/* SPDX-License-Identifier: MIT */
#include "emit/torchtitan.h"

#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "emit/target.h"
#include "plan/rules.h"
#include "plan/schedule.h"

typedef long long ll;

static void put(FILE *f, const char *name, int64_t value)
{
    fprintf(f, "--%s %lld\n", name, (ll)value);
}

/* Its meshes: dense (pp, dp, cp, tp), sparse (pp, efsdp, ep, etp), the last varying fastest. */
static int check_meshes(const struct plan *p)
{
    const struct axes *a = &p->axes;
    if (!stands_by(p, "tp-cp-ep-dp-pp"))
        return error(STATUS_USAGE,
                     "torchtitan orders ranks as tp-cp-ep-dp-pp, the plan as %s: its groups would be others",
                     a->order);
    if (p->model.moe_layers == 0 || a->ep == 1)
        return 0;
    if (a->etp != 1 && a->etp != a->tp)
        return error(STATUS_USAGE, "torchtitan has etp 1 or tp, %lld, not %lld", (ll)a->tp, (ll)a->etp);
    int64_t ranks = a->etp == a->tp ? a->cp : a->cp * a->tp;
    if (a->ep % ranks)
        return error(STATUS_USAGE,
                     "torchtitan's expert groups are of whole cp%s groups: ep %lld is no multiple of %lld",
                     a->etp == a->tp ? "" : " and tp", (ll)a->ep, (ll)ranks);
    return 0;
}

static void put_pipeline(const struct plan *p, FILE *f)
{
    const char *name = plan_schedule(p)->name;
    put(f, "parallelism.pipeline_parallel_degree", p->axes.pp);
    if (p->axes.pp == 1)
        return;
    fprintf(f, "--parallelism.pipeline_parallel_schedule %s\n",
            strcmp(name, "gpipe") == 0         ? "GPipe"
            : strcmp(name, "interleaved") == 0 ? "Interleaved1F1B"
                                               : "1F1B");
    if (plan_schedule(p)->splits)
        fprintf(f, "# The plan's schedule is %s, which it does not have: more of its pipeline is idle.\n",
                name);
    put(f, "parallelism.pipeline_parallel_microbatch_size", p->batch.micro);
    if (even_layers(p)) {
        put(f, "parallelism.pipeline_parallel_layers_per_stage", even_layers(p));
        fputs("--parallelism.pipeline_parallel_first_stage_less_layers 0\n"
              "--parallelism.pipeline_parallel_last_stage_less_layers 0\n",
              f);
        return;
    }
    fputs("# Its stages take the layers of parallelism.module_fqns_per_model_part; the plan's have", f);
    for (int i = 0; i < p->stage_count; i++)
        fprintf(f, "%s %d", i ? "," : "", p->stages[i].layers);
    fputs(".\n", f);
}

static void put_parallelism(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    put(f, "parallelism.data_parallel_replicate_degree", 1);
    put(f, "parallelism.data_parallel_shard_degree", a->dp);
    if (a->dp * a->cp > 1) {
        fprintf(f, "# ZeRO %d is FSDP there, which shards weights and gradients too%s.\n", p->training.zero,
                p->training.zero < 3 ? "; weights are gathered once a step" : "");
        fprintf(f, "--parallelism.fsdp_reshard_after_forward %s\n", p->training.zero < 3 ? "never" : "always");
    }
    put(f, "parallelism.tensor_parallel_degree", a->tp);
    put(f, "parallelism.context_parallel_degree", a->cp);
    put_pipeline(p, f);
    if (p->model.moe_layers) {
        put(f, "parallelism.expert_parallel_degree", a->ep);
        put(f, "parallelism.expert_tensor_parallel_degree", a->etp);
        fprintf(f, "--parallelism.expert_parallel_comm_backend %s\n",
                p->training.dispatcher == DISPATCHER_ALLTOALL ? "standard" : "deepep");
    }
    if (p->training.dispatcher == DISPATCHER_HYBRIDEP)
        fputs("# The plan's dispatcher is hybridep, which it does not have.\n", f);
    if (p->routing.capacity > 0)
        fputs("# It drops no token: there is no capacity factor.\n", f);
    if (p->model.moe_layers && !experts_in_order(p))
        fputs("# Experts lie in order of their numbers there; the plan has them placed otherwise.\n", f);
}

static void put_training(const struct plan *p, FILE *f)
{
    const struct training *t = &p->training;
    put(f, "training.seq_len", p->batch.seq);
    put(f, "training.local_batch_size",
        p->axes.pp > 1 ? p->batch.micro * p->batch.microbatches : p->batch.micro);
    put(f, "training.global_batch_size", p->batch.global);
    fprintf(f, "--training.mixed_precision_param %s\n", t->precision == PRECISION_F32 ? "float32" : "bfloat16");
    if (t->precision == PRECISION_FP8)
        fputs("# fp8 is a converter of its models (torchao), not described here.\n", f);
    if (t->grad_bf16 || t->moment_bf16)
        fputs("# Gradients are reduced, and moments kept, in float32.\n", f);
    fprintf(f, "--activation_checkpoint.mode %s\n", recompute_name[t->recompute]);
    if (t->recompute == RECOMPUTE_SELECTIVE)
        fputs("# Its selective mode computes every second layer again, not what memory bounds.\n", f);
}

int plan_write_torchtitan(const struct plan *p, FILE *f)
{
    TRY(shape_legal(p)); /* the arithmetic below trusts it */
    TRY(check_meshes(p));
    emit_title(p, "torchtitan", f);
    fprintf(f, "#   NGPU=%d ./run_train.sh $(grep -v '^#' FILE) and a model, data and steps\n", p->world);
    fputs("# Models are torchtitan's own flavors: the plan's shape is not among these arguments.\n", f);
    put_parallelism(p, f);
    put_training(p, f);
    return ferror(f) ? error_errno("cannot write the arguments") : 0;
}

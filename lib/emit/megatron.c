/* SPDX-License-Identifier: MIT */
#include "emit/megatron.h"

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

static void put_num(FILE *f, const char *name, double value)
{
    char text[32];
    fprintf(f, "--%s %s\n", name, exact_num(value, text));
}

/* ---- the layout ---- */

/* "Ett|tt|ttL": layers of each virtual stage, with the embedding and the loss. */
static void put_stages(const struct plan *p, FILE *f)
{
    fputs("--pipeline-model-parallel-layout E", f);
    for (int i = 0; i < p->stage_count; i++) {
        fputs(i ? "|" : "", f);
        for (int k = 0; k < p->stages[i].layers; k++)
            putc('t', f);
    }
    fputs("L\n", f);
}

static void put_layout(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    put(f, "tensor-model-parallel-size", a->tp);
    put(f, "context-parallel-size", a->cp);
    put(f, "pipeline-model-parallel-size", a->pp);
    if (p->model.moe_layers) {
        put(f, "expert-model-parallel-size", a->ep);
        fputs("# Not given, it would be the tensor-model-parallel-size.\n", f);
        put(f, "expert-tensor-parallel-size", a->etp);
    }
    if (a->tp > 1)
        fputs("--sequence-parallel\n", f);
    if (!stands_by(p, "tp-cp-ep-dp-pp"))
        fputs("--use-tp-pp-dp-mapping\n", f);
    if (a->vpp > 1 && even_layers(p))
        put(f, "num-virtual-stages-per-pipeline-rank", a->vpp);
    if (!even_layers(p))
        put_stages(p, f);
    if (a->pp > 1 && strcmp(plan_schedule(p)->name, "gpipe") == 0)
        fputs(
            "# The plan's schedule is gpipe; Megatron-LM runs 1F1B, which holds fewer microbatches at once.\n",
            f);
    else if (a->pp > 1 && plan_schedule(p)->splits)
        fprintf(f, "# The plan's schedule is %s; Megatron-LM runs 1F1B: more of its pipeline is idle.\n",
                plan_schedule(p)->name);
}

static void put_zero(const struct plan *p, FILE *f)
{
    if (p->training.zero == 1)
        fputs("--use-distributed-optimizer\n", f);
    if (p->training.zero < 2)
        return;
    fputs("# ZeRO 2 and 3 are Megatron-FSDP's.\n--use-distributed-optimizer\n--use-megatron-fsdp\n", f);
    fprintf(f, "--data-parallel-sharding-strategy %s\n",
            p->training.zero == 2 ? "optim_grads" : "optim_grads_params");
}

/* Gradients and weights as the plan has them. In the plan rows of experts travel beside the shared expert, and
 * backward beside weight gradients of the experts; its 1F1B that hides them beside another microbatch
 * (--overlap-moe-expert-parallel-comm) is another schedule. */
static void put_overlap(const struct plan *p, FILE *f)
{
    const struct training *t = &p->training;
    fputs(t->zero ? "--overlap-grad-reduce\n--overlap-param-gather\n" : "--overlap-grad-reduce\n", f);
    if (!p->model.moe_layers || p->axes.ep * p->axes.etp == 1)
        return;
    if (p->model.shared_ffn && t->dispatcher == DISPATCHER_ALLTOALL)
        fputs("# Rows of experts travel beside the shared expert; in the plan also beside weight gradients.\n"
              "--moe-shared-expert-overlap\n",
              f);
    else
        fputs("# Nothing hides the rows of experts; in the plan they travel beside weight gradients.\n", f);
}

static void put_training(const struct plan *p, FILE *f)
{
    const struct training *t = &p->training;
    put(f, "seq-length", p->batch.seq);
    put(f, "max-position-embeddings", max64(p->batch.seq, p->model.max_positions));
    put(f, "micro-batch-size", p->batch.micro);
    put(f, "global-batch-size", p->batch.global);
    if (t->precision != PRECISION_F32)
        fputs("--bf16\n", f);
    if (t->precision == PRECISION_FP8)
        fputs("--fp8-format hybrid\n", f);
    if (t->precision != PRECISION_F32)
        fputs(t->grad_bf16 ? "--grad-reduce-in-bf16\n" : "--accumulate-allreduce-grads-in-fp32\n", f);
    put_zero(p, f);
    if (t->moment_bf16)
        fputs("--use-precision-aware-optimizer\n--exp-avg-dtype bf16\n--exp-avg-sq-dtype bf16\n", f);
    if (t->recompute == RECOMPUTE_SELECTIVE)
        fputs("# What is computed again is the core of attention.\n--recompute-granularity selective\n", f);
    else if (t->recompute == RECOMPUTE_FULL)
        fputs("--recompute-granularity full\n--recompute-method uniform\n--recompute-num-layers 1\n", f);
    if (t->bucket_bytes)
        put(f, "ddp-bucket-size", t->bucket_bytes / (t->grad_bf16 ? 2 : 4));
    if (t->overlap)
        put_overlap(p, f);
}

/* ---- the model ---- */

static void put_attention(const struct model *m, FILE *f)
{
    put(f, "num-attention-heads", m->heads);
    if (m->kv_rank) {
        fputs("--multi-latent-attention\n--rope-type rope\n", f);
        if (m->q_rank)
            put(f, "q-lora-rank", m->q_rank);
        put(f, "kv-lora-rank", m->kv_rank);
        put(f, "qk-head-dim", m->head_dim - m->rotary_dim);
        put(f, "qk-pos-emb-head-dim", m->rotary_dim);
        put(f, "v-head-dim", m->value_dim);
    } else {
        put(f, "kv-channels", m->head_dim);
        if (m->kv_heads < m->heads) {
            fputs("--group-query-attention\n", f);
            put(f, "num-query-groups", m->kv_heads);
        }
        if (m->rotary_dim < m->head_dim)
            put_num(f, "rotary-percent", (double)m->rotary_dim / (double)m->head_dim);
    }
    fputs("--position-embedding-type rope\n", f);
    put_num(f, "rotary-base", m->rope_theta);
    if (m->qk_norm == QK_NORM_HEAD)
        fputs("--qk-layernorm\n", f);
    else if (m->qk_norm == QK_NORM_FULL)
        fputs("# q and k are normalised over the whole projection; --qk-layernorm does it head by head.\n", f);
    if (m->qkv_bias)
        fputs("--add-qkv-bias\n", f);
    if (m->clip_qkv > 0)
        fprintf(f, "# q, k and v are clipped at %g, for which it has no argument.\n", m->clip_qkv);
}

static void put_router(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    put(f, "moe-router-topk", m->top_k);
    fputs("--moe-router-dtype fp32\n", f);
    if (m->sigmoid)
        fputs("--moe-router-score-function sigmoid\n", f);
    else if (!m->renormalise)
        fputs("--moe-router-pre-softmax\n", f);
    if (m->groups > 1) {
        put(f, "moe-router-num-groups", m->groups);
        put(f, "moe-router-group-topk", m->top_groups);
    }
    if (m->route_scale != 1 && m->route_scale > 0)
        put_num(f, "moe-router-topk-scaling-factor", m->route_scale);
    if (m->sigmoid) {
        fputs("--moe-router-enable-expert-bias\n", f);
        put_num(f, "moe-router-bias-update-rate", m->bias_rate);
    }
    fprintf(f, "--moe-router-load-balancing-type %s\n", m->loss_coef[LOSS_AUX] > 0 ? "aux_loss" : "none");
    if (m->loss_coef[LOSS_AUX] > 0)
        put_num(f, "moe-aux-loss-coeff", m->loss_coef[LOSS_AUX]);
    if (m->loss_coef[LOSS_Z] > 0)
        put_num(f, "moe-z-loss-coeff", m->loss_coef[LOSS_Z]);
}

static void put_dispatch(const struct plan *p, FILE *f)
{
    static const char *const how[] = {
        [DISPATCHER_ALLTOALL] = "alltoall",
        [DISPATCHER_DEEPEP] = "flex\n--moe-enable-deepep",
        [DISPATCHER_HYBRIDEP] = "flex\n--moe-flex-dispatcher-backend hybridep",
    };
    fprintf(f, "--moe-token-dispatcher-type %s\n", how[p->training.dispatcher]);
    if (p->routing.capacity > 0) {
        put_num(f, "moe-expert-capacity-factor", p->routing.capacity);
        fprintf(f, "--moe-token-drop-policy %s\n", p->routing.drop_position ? "position" : "probs");
        if (!p->routing.local_scope)
            fputs("# Capacity counts the rank's own tokens there, not the microbatch's: what is dropped "
                  "depends on tp.\n",
                  f);
    }
    if (!experts_in_order(p))
        fputs("# Experts lie in order of their numbers there; the plan has them placed otherwise.\n", f);
}

/* "([0]*1+[1]*26)": runs of layers that are MoE or not. */
static void put_moe_layers(const struct model *m, FILE *f)
{
    if (m->moe_layers == m->layers)
        return;
    fputs("--moe-layer-freq (", f);
    for (int64_t l = 0, end; l < m->layers; l = end) {
        for (end = l; end < m->layers && m->moe[end] == m->moe[l]; end++)
            ;
        fprintf(f, "%s[%d]*%lld", l ? "+" : "", m->moe[l], (ll)(end - l));
    }
    fputs(")\n", f);
}

static void put_model(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    put(f, "num-layers", m->layers);
    put(f, "hidden-size", m->hidden);
    put(f, "ffn-hidden-size", m->dense_ffn ? m->dense_ffn : m->expert_ffn);
    put_attention(m, f);
    fputs("--normalization RMSNorm\n", f);
    put_num(f, "norm-epsilon", m->norm_eps);
    fputs("--swiglu\n", f);
    if (!m->mlp_bias && !m->o_bias)
        fputs("--disable-bias-linear\n", f);
    if (!m->tied)
        fputs("--untie-embeddings-and-output-weights\n", f);
    put(f, "vocab-size", m->vocab);
    put(f, "make-vocab-size-divisible-by", 1);
    if (m->vocab % p->axes.tp)
        fprintf(f, "# It pads the vocabulary to a multiple of tp, %lld.\n", (ll)round_up(m->vocab, p->axes.tp));
    put_num(f, "init-method-std", m->init_std);
    fputs("--attention-dropout 0\n--hidden-dropout 0\n", f);
    if (m->moe_layers) {
        put(f, "num-experts", m->experts);
        put(f, "moe-ffn-hidden-size", m->expert_ffn);
        put_moe_layers(m, f);
        if (m->shared_ffn)
            put(f, "moe-shared-expert-intermediate-size", m->shared_ffn);
        if (m->shared_gate)
            fputs("# The shared expert has a gate, for which it has no argument.\n", f);
        fputs("--moe-grouped-gemm\n", f);
        put_router(p, f);
        put_dispatch(p, f);
    }
    if (m->window && m->window < p->batch.seq)
        fputs(
            "# The model's sliding windows are not described here (--window-size, --window-attn-skip-freq).\n",
            f);
    if (*m->plan_only)
        fputs(
            "# The config asks for more than is described here: start from Megatron's recipe for this model.\n",
            f);
}

int plan_write_megatron(const struct plan *p, FILE *f)
{
    TRY(shape_legal(p)); /* the arithmetic below trusts it */
    if (!stands_by(p, "tp-cp-ep-dp-pp") && !stands_by(p, "tp-cp-ep-pp-dp"))
        return error(
            STATUS_USAGE,
            "Megatron-LM orders ranks as tp-cp-ep-dp-pp or tp-cp-ep-pp-dp, the plan as %s: its groups would "
            "be others",
            p->axes.order);
    emit_title(p, "megatron", f);
    fprintf(f,
            "#   torchrun ... pretrain_gpt.py $(grep -v '^#' FILE) and data, steps and learning rate, on %d "
            "ranks\n",
            p->world);
    fputs("# Its memory and seconds are those that the plan predicts only as far as it computes the same.\n",
          f);
    put_layout(p, f);
    put_training(p, f);
    put_model(p, f);
    return ferror(f) ? error_errno("cannot write the arguments") : 0;
}

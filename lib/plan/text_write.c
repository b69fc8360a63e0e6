/* SPDX-License-Identifier: MIT */
/* The plan as text: moe-plan(5). */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/num.h"
#include "base/record.h"
#include "model/size.h"
#include "plan/schedule.h"
#include "plan/text.h"

const char *const model_figure_name[MODEL_FIGURES] = {
    "layers",  "moe_layers", "hidden",     "heads",      "kv_heads",  "head_dim",   "vocab",
    "experts", "top_k",      "expert_ffn", "shared_ffn", "dense_ffn", "parameters", "active_parameters"};

void model_figures(const struct model *m, int64_t out[static MODEL_FIGURES])
{
    const int64_t figures[MODEL_FIGURES] = {m->layers,
                                            m->moe_layers,
                                            m->hidden,
                                            m->heads,
                                            m->kv_heads,
                                            m->head_dim,
                                            m->vocab,
                                            m->experts,
                                            m->top_k,
                                            m->expert_ffn,
                                            m->shared_ffn,
                                            m->dense_ffn,
                                            model_parameters(m),
                                            model_active_parameters(m)};
    memcpy(out, figures, sizeof figures);
}

char *figure_text(double value, char buf[static 32])
{
    if (isnan(value))
        return strcpy(buf, "null");
    if (fabs(value) < 1e15 && value == floor(value)) { /* bytes in full, not 6.4e+10 */
        snprintf(buf, 32, "%.0f", value);
        return buf;
    }
    return exact_num(value, buf);
}

static void number(FILE *f, const char *key, double value)
{
    char text[32];
    fprintf(f, " %s=%s", key, figure_text(value, text));
}

/* The second line says who made the plan, whatever was in the command line. */
static void write_comment(const char *text, FILE *f)
{
    fputs("# ", f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        putc(*p < ' ' || *p == 0x7f ? '?' : *p, f);
    putc('\n', f);
}

static void write_model(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    fputs("model name=", f);
    record_write_text(f, *m->name ? m->name : "-");
    fprintf(f, " family=%s", family_type[m->family]);
    int64_t figures[MODEL_FIGURES];
    model_figures(m, figures);
    for (int i = 0; i < MODEL_FIGURES; i++)
        fprintf(f, " %s=%" PRId64, model_figure_name[i], figures[i]);
    putc('\n', f);
    fprintf(f, "config bytes=%zu crc32=%08" PRIx32 "\n", m->source_bytes, m->source_crc32);
    const char *end = m->source + m->source_bytes;
    for (const char *line = m->source; line < end;) {
        const char *newline = memchr(line, '\n', end - line);
        size_t n = (newline ? newline : end) - line;
        fputs("| ", f);
        fwrite(line, 1, n, f);
        putc('\n', f);
        line += n + (newline != NULL);
    }
}

static void write_numbers(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    const struct batch *b = &p->batch;
    const struct training *t = &p->training;
    const struct machine *m = &p->machine;
    fprintf(f,
            "axes world=%d tp=%" PRId64 " cp=%" PRId64 " dp=%" PRId64 " etp=%" PRId64 " ep=%" PRId64
            " edp=%" PRId64 " pp=%" PRId64 " vpp=%" PRId64 " order=%s\n",
            p->world, a->tp, a->cp, a->dp, a->etp, a->ep, a->edp, a->pp, a->vpp, a->order);
    fprintf(f, "batch seq=%" PRId64 " micro=%" PRId64 " global=%" PRId64 " microbatches=%" PRId64 "\n", b->seq,
            b->micro, b->global, b->microbatches);
    fputs("routing", f);
    number(f, "lambda", p->routing.lambda);
    if (p->routing.capacity > 0)
        number(f, "capacity", p->routing.capacity);
    else
        fputs(" capacity=none", f);
    fprintf(f, " scope=%s drop=%s\n", p->routing.local_scope ? "local" : "microbatch",
            p->routing.drop_position ? "position" : "prob");
    fprintf(
        f,
        "training precision=%s recompute=%s zero=%d schedule=%s dispatcher=%s overlap=%s grad=%s moment=%s\n",
        precision_name[t->precision], recompute_name[t->recompute], t->zero, t->schedule, t->dispatcher,
        t->overlap ? "on" : "off", t->grad_bf16 ? "bf16" : "f32", t->moment_bf16 ? "bf16" : "f32");
    fputs("machine name=", f);
    record_write_text(f, *m->name ? m->name : "-");
    fprintf(f, " device=%s nodes=%" PRId64 " per_node=%" PRId64, m->device, m->nodes, m->per_node);
    number(f, "memory_bytes", m->memory_bytes);
    number(f, "flops_bf16", m->flops_bf16);
    number(f, "flops_f32", m->flops_f32);
    number(f, "intra_Bps", m->intra_Bps);
    number(f, "inter_Bps", m->inter_Bps);
    number(f, "intra_s", m->intra_s);
    number(f, "inter_s", m->inter_s);
    putc('\n', f);
}

static void write_layout(const struct plan *p, FILE *f)
{
    for (int i = 0; i < p->stage_count; i++) {
        const struct stage *s = &p->stages[i];
        fprintf(f, "stage %d pp=%d chunk=%d layers=", i, s->pp, s->chunk);
        if (s->layers == 0)
            fputs("-\n", f);
        else if (s->layers == 1)
            fprintf(f, "%d\n", s->first);
        else
            fprintf(f, "%d-%d\n", s->first, s->first + s->layers - 1);
    }
    for (int r = 0; r < p->world; r++) {
        const struct coords *c = &p->ranks[r];
        fprintf(f, "rank %d node=%d tp=%d cp=%d dp=%d etp=%d ep=%d edp=%d pp=%d\n", r, c->node, c->tp, c->cp,
                c->dp, c->etp, c->ep, c->edp, c->pp);
    }
    for (int i = 0; i < p->group_count; i++) {
        const struct plan_group *g = &p->groups[i];
        fprintf(f, "group %s %d ", group_name[g->kind], g->index);
        record_write_list(f, g->ranks, g->size, false);
        putc('\n', f);
    }
}

static bool same_placement(const struct plan *p, int a, int b)
{
    size_t row = p->model.experts * sizeof *p->expert_slot;
    return memcmp(p->expert_slot + a * p->model.experts, p->expert_slot + b * p->model.experts, row) == 0;
}

/* A line for each ep rank, for all the layers with the same placement together. */
static void write_experts(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    int each = (int)(m->experts / p->axes.ep), *in_slot = xcalloc(m->experts, sizeof *in_slot),
        *list = xcalloc(m->layers, sizeof *list);
    bool *done = xcalloc(m->layers, sizeof *done);
    for (int l = 0; l < m->layers; l++) {
        if (!m->moe[l] || done[l])
            continue;
        int count = 0;
        for (int k = l; k < m->layers; k++)
            if (m->moe[k] && !done[k] && same_placement(p, l, k)) {
                done[k] = true;
                list[count++] = k;
            }
        for (int e = 0; e < m->experts; e++)
            if (plan_layer_slot(p, l, e) >= 0)
                in_slot[plan_layer_slot(p, l, e)] = e;
        for (int ep = 0; ep < p->axes.ep; ep++) {
            fputs("expert layers=", f);
            record_write_list(f, list, count, true);
            fprintf(f, " ep=%d ids=", ep);
            record_write_list(f, in_slot + ep * each, each, true);
            putc('\n', f);
        }
    }
    free(in_slot);
    free(list);
    free(done);
}

static void write_schedules(const struct plan *p, FILE *f)
{
    for (int i = 0; i < p->axes.pp; i++) {
        fprintf(f, "schedule %d", i);
        for (int k = 0; k < p->programs[i].count; k++) {
            const struct op *o = &p->programs[i].ops[k];
            fprintf(f, p->axes.vpp > 1 ? " %c%d.%d" : " %c%d", o->kind, o->microbatch, o->chunk);
        }
        putc('\n', f);
    }
}

void plan_write_predict(const struct plan *p, FILE *f)
{
    const struct predict *d = &p->predict;
    fputs("predict", f);
    number(f, "memory_bytes", d->memory_bytes);
    fprintf(f, " memory_rank=%d", d->memory_rank);
    number(f, "state_bytes", d->state_bytes);
    number(f, "activation_bytes", d->activation_bytes);
    number(f, "workspace_bytes", d->workspace_bytes);
    number(f, "step_s", d->step_s);
    number(f, "tokens_per_s", d->tokens_per_s);
    number(f, "flops_per_token", d->flops_per_token);
    number(f, "mfu", d->mfu);
    number(f, "bubble", d->bubble);
    putc('\n', f);
}

int plan_write(const struct plan *p, FILE *f)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *mem = open_memstream(&text, &bytes);
    if (!mem)
        return error_errno("cannot write the plan");
    fputs("moe-plan 1\n", mem);
    if (p->made_by)
        write_comment(p->made_by, mem);
    write_model(p, mem);
    write_numbers(p, mem);
    write_layout(p, mem);
    write_experts(p, mem);
    write_schedules(p, mem);
    plan_write_predict(p, mem);
    if (fclose(mem) != 0) {
        free(text);
        return error_errno("cannot write the plan");
    }
    fwrite(text, 1, bytes, f);
    fprintf(f, "sum crc32=%08lx\n", crc32_z(0, (const unsigned char *)text, bytes));
    free(text);
    return ferror(f) ? error_errno("cannot write the plan") : 0;
}

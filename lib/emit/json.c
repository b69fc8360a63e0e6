/* SPDX-License-Identifier: MIT */
#include "emit/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/num.h"
#include "plan/text.h"

static void string(FILE *f, const char *s)
{
    putc('"', f);
    for (const unsigned char *p = (const unsigned char *)s; *p; p++)
        if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < ' ')
            fprintf(f, "\\u%04x", *p);
        else
            putc(*p, f);
    putc('"', f);
}

static void text_member(FILE *f, const char *key, const char *value)
{
    fprintf(f, "\"%s\":", key);
    string(f, value);
}

static void num_member(FILE *f, const char *key, double value)
{
    char text[32];
    fprintf(f, ",\"%s\":%s", key, figure_text(value, text));
}

/* An unknown figure of the machine is 0 in the plan. */
static void known_member(FILE *f, const char *key, double value)
{
    num_member(f, key, value > 0 ? value : NAN);
}

static void write_model(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    int64_t figures[MODEL_FIGURES];
    model_figures(m, figures);
    fputs("\"model\":{", f);
    text_member(f, "name", m->name);
    putc(',', f);
    text_member(f, "family", family_type[m->family]);
    for (int i = 0; i < MODEL_FIGURES; i++)
        fprintf(f, ",\"%s\":%" PRId64, model_figure_name[i], figures[i]);
    fputs(",\"moe\":[", f);
    for (int64_t l = 0; l < m->layers; l++)
        fprintf(f, "%s%s", l ? "," : "", m->moe[l] ? "true" : "false");
    fprintf(f, "],\"config_crc32\":\"%08" PRIx32 "\",\"config\":", m->source_crc32);
    fwrite(m->source, 1, m->source_bytes, f); /* it is JSON */
    fputs("},\n", f);
}

static void write_numbers(const struct plan *p, FILE *f)
{
    const struct axes *a = &p->axes;
    const struct batch *b = &p->batch;
    const struct training *t = &p->training;
    fprintf(f, "\"world\":%d,\n", p->world);
    fprintf(f,
            "\"axes\":{\"tp\":%" PRId64 ",\"cp\":%" PRId64 ",\"dp\":%" PRId64 ",\"etp\":%" PRId64
            ",\"ep\":%" PRId64 ",\"edp\":%" PRId64 ",\"pp\":%" PRId64 ",\"vpp\":%" PRId64 ",",
            a->tp, a->cp, a->dp, a->etp, a->ep, a->edp, a->pp, a->vpp);
    text_member(f, "order", a->order);
    fprintf(f,
            "},\n\"batch\":{\"seq\":%" PRId64 ",\"micro\":%" PRId64 ",\"global\":%" PRId64
            ",\"microbatches\":%" PRId64 "},\n",
            b->seq, b->micro, b->global, b->microbatches);
    fputs("\"routing\":{", f);
    text_member(f, "scope", p->routing.local_scope ? "local" : "microbatch");
    putc(',', f);
    text_member(f, "drop", p->routing.drop_position ? "position" : "prob");
    num_member(f, "lambda", p->routing.lambda);
    known_member(f, "capacity", p->routing.capacity);
    fputs("},\n\"training\":{", f);
    text_member(f, "precision", precision_name[t->precision]);
    putc(',', f);
    text_member(f, "recompute", recompute_name[t->recompute]);
    fprintf(f, ",\"zero\":%d,", t->zero);
    text_member(f, "schedule", t->schedule);
    putc(',', f);
    text_member(f, "dispatcher", t->dispatcher);
    fprintf(f, ",\"overlap\":%s,", t->overlap ? "true" : "false");
    text_member(f, "grad", t->grad_bf16 ? "bf16" : "f32");
    putc(',', f);
    text_member(f, "moment", t->moment_bf16 ? "bf16" : "f32");
    fputs("},\n", f);
}

static void write_machine(const struct plan *p, FILE *f)
{
    const struct machine *m = &p->machine;
    fputs("\"machine\":{", f);
    text_member(f, "name", m->name);
    putc(',', f);
    text_member(f, "device", m->device);
    fprintf(f, ",\"nodes\":%" PRId64 ",\"per_node\":%" PRId64, m->nodes, m->per_node);
    known_member(f, "memory_bytes", m->memory_bytes);
    known_member(f, "flops_bf16", m->flops_bf16);
    known_member(f, "flops_f32", m->flops_f32);
    known_member(f, "intra_Bps", m->intra_Bps);
    known_member(f, "inter_Bps", m->inter_Bps);
    known_member(f, "intra_s", m->intra_s);
    known_member(f, "inter_s", m->inter_s);
    fputs("},\n", f);
}

static void write_layout(const struct plan *p, FILE *f)
{
    fputs("\"stages\":[", f);
    for (int i = 0; i < p->stage_count; i++) {
        const struct stage *s = &p->stages[i];
        fprintf(f, "%s\n{\"stage\":%d,\"pp\":%d,\"chunk\":%d,\"first\":%d,\"layers\":%d}", i ? "," : "", i,
                s->pp, s->chunk, s->first, s->layers);
    }
    fputs("],\n\"ranks\":[", f);
    for (int r = 0; r < p->world; r++) {
        const struct coords *c = &p->ranks[r];
        fprintf(f,
                "%s\n{\"rank\":%d,\"node\":%d,\"tp\":%d,\"cp\":%d,\"dp\":%d,\"etp\":%d,\"ep\":%d,\"edp\":%d,"
                "\"pp\":%d}",
                r ? "," : "", r, c->node, c->tp, c->cp, c->dp, c->etp, c->ep, c->edp, c->pp);
    }
    fputs("],\n\"groups\":{", f);
    for (int kind = 0; kind < GROUP_KINDS; kind++) {
        fprintf(f, "%s\n\"%s\":[", kind ? "," : "", group_name[kind]);
        for (int i = 0, n = 0; i < p->group_count; i++) {
            const struct plan_group *g = &p->groups[i];
            if (g->kind != (enum group_kind)kind)
                continue;
            fputs(n++ ? ",[" : "[", f);
            for (int k = 0; k < g->size; k++)
                fprintf(f, k ? ",%d" : "%d", g->ranks[k]);
            putc(']', f);
        }
        putc(']', f);
    }
    fputs("},\n", f);
}

/* A row a layer: the slot of each expert, ep rank = slot div (experts/ep); null for layers that are not MoE. */
static void write_experts(const struct plan *p, FILE *f)
{
    fprintf(f, "\"experts\":{\"per_ep_rank\":%" PRId64 ",\"slots\":[", p->model.experts / p->axes.ep);
    for (int l = 0; l < p->model.layers; l++) {
        fprintf(f, "%s\n%s", l ? "," : "", p->model.moe[l] ? "[" : "null");
        for (int e = 0; e < p->model.experts && p->model.moe[l]; e++)
            fprintf(f, e ? ",%d" : "%d", (int)plan_layer_slot(p, l, e));
        if (p->model.moe[l])
            putc(']', f);
    }
    fputs("]},\n\"schedules\":[", f);
    for (int i = 0; i < p->axes.pp; i++) {
        fprintf(f, "%s\n[", i ? "," : "");
        for (int k = 0; k < p->programs[i].count; k++) {
            const struct op *o = &p->programs[i].ops[k];
            fprintf(f, p->axes.vpp > 1 ? "%s\"%c%d.%d\"" : "%s\"%c%d\"", k ? "," : "", o->kind, o->microbatch,
                    o->chunk);
        }
        putc(']', f);
    }
    fputs("],\n", f);
}

static void write_predict(const struct plan *p, FILE *f)
{
    const struct predict *d = &p->predict;
    fprintf(f, "\"predict\":{\"memory_rank\":%d", d->memory_rank);
    num_member(f, "step_s", d->step_s);
    num_member(f, "tokens_per_s", d->tokens_per_s);
    num_member(f, "flops_per_token", d->flops_per_token);
    num_member(f, "mfu", d->mfu);
    num_member(f, "memory_bytes", d->memory_bytes);
    num_member(f, "state_bytes", d->state_bytes);
    num_member(f, "activation_bytes", d->activation_bytes);
    num_member(f, "workspace_bytes", d->workspace_bytes);
    num_member(f, "bubble", d->bubble);
    fputs("}\n", f);
}

int plan_write_json(const struct plan *p, FILE *f)
{
    fputs("{\"format\":\"moe-plan\",\"version\":1,\n", f);
    text_member(f, "made_by", p->made_by ? p->made_by : "");
    fputs(",\n", f);
    write_model(p, f);
    write_numbers(p, f);
    write_machine(p, f);
    write_layout(p, f);
    write_experts(p, f);
    write_predict(p, f);
    fputs("}\n", f);
    return ferror(f) ? error_errno("cannot write the plan") : 0;
}

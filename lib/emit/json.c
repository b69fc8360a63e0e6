/* SPDX-License-Identifier: MIT */
#include "emit/json.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/json.h"
#include "plan/fields.h"
#include "plan/schedule.h"
#include "plan/slots.h"

/* Numbers are written as the plan's text has them. */
static void string(FILE *f, const char *text)
{
    json_t *s = json_bytes(text);
    json_dumpf(s, f, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    json_decref(s);
}

static void value(FILE *f, const struct field *x, const void *base)
{
    char text[FIELD_VALUE];
    bool unknown = x->type == FIELD_KNOWN && !(field_num(x, base) > 0);
    if (x->type == FIELD_TEXT || x->type == FIELD_WORD)
        string(f, field_text(x, base, text));
    else if (x->type == FIELD_FLAG)
        fputs(field_int(x, base) ? "true" : "false", f);
    else
        fputs(unknown ? "null" : field_text(x, base, text), f);
}

/* "key":value,… */
static void members(FILE *f, const struct field *x, const void *base)
{
    for (const char *comma = ""; x->key; x++, comma = ",") {
        fprintf(f, "%s\"%s\":", comma, x->key);
        value(f, x, base);
    }
}

static void record(FILE *f, const struct record_fields *r, const struct plan *p)
{
    fprintf(f, "\"%s\":{", r->kind);
    members(f, r->fields, p);
    fputs("},\n", f);
}

static void write_model(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    fputs("\"model\":{", f);
    members(f, model_fields.fields, m);
    fputs(",\"moe\":[", f);
    for (int64_t l = 0; l < m->layers; l++)
        fprintf(f, "%s%s", l ? "," : "", m->moe[l] ? "true" : "false");
    fprintf(f, "],\"config_crc32\":\"%08" PRIx32 "\",\"config\":", m->source_crc32);
    fwrite(m->source, 1, m->source_bytes, f); /* it is JSON */
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
        fprintf(f, "%s\n{\"rank\":%d,", r ? "," : "", r);
        members(f, rank_fields.fields, &p->ranks[r]);
        putc('}', f);
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

/* Of each layer a row of numbers, null for layers that are not MoE. */
static void expert_rows(const struct plan *p, FILE *f, const char *name, const int32_t *table, int64_t width)
{
    fprintf(f, "\"%s\":[", name);
    for (int l = 0; l < p->model.layers; l++) {
        fprintf(f, "%s\n%s", l ? "," : "", p->model.moe[l] ? "[" : "null");
        for (int64_t i = 0; i < width && p->model.moe[l]; i++)
            fprintf(f, i ? ",%d" : "%d", (int)table[l * width + i]);
        if (p->model.moe[l])
            putc(']', f);
    }
    putc(']', f);
}

/* per_ep_rank: the most that a rank has; slots: the first slot of each expert; experts: the expert in each
 * slot; first: the first slot of each ep rank, and how many there are. */
static void write_experts(const struct plan *p, FILE *f)
{
    const struct slots *s = &p->slots;
    fprintf(f, "\"experts\":{\"per_ep_rank\":%" PRId64 ",", plan_most_slots(p));
    expert_rows(p, f, "slots", s->of, p->model.experts);
    putc(',', f);
    expert_rows(p, f, "experts", s->expert, s->most);
    putc(',', f);
    expert_rows(p, f, "first", s->first, p->axes.ep + 1);
    fputs("},\n\"schedules\":[", f);
    for (int i = 0; i < p->axes.pp; i++) {
        fprintf(f, "%s\n[", i ? "," : "");
        for (int k = 0; k < p->programs[i].count; k++) {
            char op[OP_TEXT];
            fprintf(f, "%s\"%s\"", k ? "," : "", op_text(&p->programs[i].ops[k], p->axes.vpp > 1, op));
        }
        putc(']', f);
    }
    fputs("],\n", f);
}

int plan_write_json(const struct plan *p, FILE *f)
{
    fputs("{\"format\":\"moe-plan\",\"version\":1,\n", f);
    fputs("\"made_by\":", f);
    string(f, p->made_by ? p->made_by : "");
    fprintf(f, ",\n\"world\":%d,\n", p->world);
    write_model(p, f);
    fputs("\"axes\":{", f);
    members(f, axes_fields.fields + 1, p); /* world stands above */
    fputs("},\n", f);
    record(f, &batch_fields, p);
    record(f, &routing_fields, p);
    record(f, &training_fields, p);
    record(f, &machine_fields, p);
    write_layout(p, f);
    write_experts(p, f);
    fputs("\"predict\":{", f);
    members(f, predict_fields.fields, p);
    fputs("}}\n", f);
    return ferror(f) ? error_errno("cannot write the plan") : 0;
}

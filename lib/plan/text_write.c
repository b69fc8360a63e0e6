/* SPDX-License-Identifier: MIT */
/* The plan as text: moe-plan(5). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/record.h"
#include "plan/fields.h"
#include "plan/schedule.h"
#include "plan/slots.h"
#include "plan/text.h"

/* The second line says who made the plan, whatever was in the command line. */
static void write_comment(const char *text, FILE *f)
{
    fputs("# ", f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++)
        putc(*p < ' ' || *p == 0x7f ? '?' : *p, f);
    putc('\n', f);
}

static void write_record(const struct record_fields *r, const struct plan *p, FILE *f)
{
    fputs(r->kind, f);
    fields_write(r, p, f);
    putc('\n', f);
}

static void write_model(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    fputs("model", f);
    fields_write(&model_fields, m, f);
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
        fprintf(f, "rank %d", r);
        fields_write(&rank_fields, &p->ranks[r], f);
        putc('\n', f);
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
    const struct slots *s = &p->slots;
    int64_t ranks = p->axes.ep + 1;
    return memcmp(s->first + a * ranks, s->first + b * ranks, ranks * sizeof *s->first) == 0 &&
           memcmp(s->expert + (int64_t)a * s->most, s->expert + (int64_t)b * s->most,
                  s->most * sizeof *s->expert) == 0;
}

/* A line for each ep rank, for all the layers with the same placement together. */
static void write_experts(const struct plan *p, FILE *f)
{
    const struct model *m = &p->model;
    int *list = xcalloc(m->layers, sizeof *list);
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
        for (int ep = 0; ep < p->axes.ep; ep++) {
            int64_t first, each = plan_slots(p, l, ep, &first);
            fputs("expert layers=", f);
            record_write_list(f, list, count, true);
            fprintf(f, " ep=%d ids=", ep);
            record_write_list(f, p->slots.expert + (int64_t)l * p->slots.most + first, (int)each, true);
            putc('\n', f);
        }
    }
    free(list);
    free(done);
}

static void write_schedules(const struct plan *p, FILE *f)
{
    for (int i = 0; i < p->axes.pp; i++) {
        fprintf(f, "schedule %d", i);
        for (int k = 0; k < p->programs[i].count; k++) {
            char op[OP_TEXT];
            fprintf(f, " %s", op_text(&p->programs[i].ops[k], p->axes.vpp > 1, op));
        }
        putc('\n', f);
    }
}

void plan_write_predict(const struct plan *p, FILE *f)
{
    write_record(&predict_fields, p, f);
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
    write_record(&axes_fields, p, mem);
    write_record(&batch_fields, p, mem);
    write_record(&routing_fields, p, mem);
    write_record(&training_fields, p, mem);
    write_record(&machine_fields, p, mem);
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

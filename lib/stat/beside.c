/* SPDX-License-Identifier: MIT */
#include "stat/beside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/notice.h"
#include "base/num.h"
#include "stat/texts.h"

/* A part: a predicted figure, and the measured one that it should come out as, or NOT_MEASURED. To add one is
 * to add a row. */
#define NOT_MEASURED FIGURES
static const struct compared_part {
    enum figure_id predicted, measured;
    size_t at; /* of a double in struct predict */
} parts[] = {
    {FIGURE_step_s, FIGURE_step_s, offsetof(struct predict, step_s)},
    {FIGURE_tokens_per_s, FIGURE_tokens_per_s, offsetof(struct predict, tokens_per_s)},
    {FIGURE_mfu, FIGURE_mfu, offsetof(struct predict, mfu)},
    {FIGURE_bubble, FIGURE_bubble, offsetof(struct predict, bubble)},
    {FIGURE_memory_bytes, FIGURE_peak_bytes, offsetof(struct predict, memory_bytes)},
    {FIGURE_state_bytes, NOT_MEASURED, offsetof(struct predict, state_bytes)},
    {FIGURE_activation_bytes, NOT_MEASURED, offsetof(struct predict, activation_bytes)},
    {FIGURE_workspace_bytes, NOT_MEASURED, offsetof(struct predict, workspace_bytes)},
    {FIGURE_communicator_bytes, NOT_MEASURED, offsetof(struct predict, communicator_bytes)},
    {FIGURE_flops_per_token, FIGURE_flops_per_token, offsetof(struct predict, flops_per_token)},
};
enum { PARTS = sizeof parts / sizeof *parts };

struct row {
    const struct compared_part *part;
    double predicted, measured, off; /* measured over predicted, less 1; NaN where one is unknown */
};

/* By how many times it is off, whichever way; what is unknown last. */
static int worst_first(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    double u = fabs(log1p(x->off)), v = fabs(log1p(y->off));
    if (isnan(u) || isnan(v))
        return isnan(u) != isnan(v) ? isnan(u) - isnan(v) : (x->part > y->part) - (x->part < y->part);
    return u != v ? (u < v) - (u > v) : (x->part > y->part) - (x->part < y->part);
}

struct known_figures beside_known(const struct plan *p)
{
    double peak = p->training.precision == PRECISION_F32 ? p->machine.flops_f32 : p->machine.flops_bf16;
    return (struct known_figures){.flops_per_token = p->predict.flops_per_token,
                                  .peak_flops = peak > 0 ? peak : NAN,
                                  .device_bytes = p->machine.memory_bytes > 0 ? p->machine.memory_bytes : NAN};
}

static const char *measured_as(const struct compared_part *p)
{
    return p->measured == NOT_MEASURED ? "" : figure_table[p->measured].name;
}

static void put_text(FILE *f, const struct row *r)
{
    struct texts w = {0};
    const struct figure *x = &figure_table[r->part->predicted];
    const char *as = measured_as(r->part);
    bool bytes = x->unit == UNIT_BYTES;
    fprintf(f, "%-18s%16s%16s%12s", x->name,
            bytes ? text_bytes(&w, r->predicted) : text_number(&w, r->predicted),
            bytes ? text_bytes(&w, r->measured) : text_number(&w, r->measured),
            text_as(&w, "%+.1f %%", 100 * r->off));
    fprintf(f, "%s%s\n", *as && strcmp(as, x->name) != 0 ? "   measured: " : "",
            strcmp(as, x->name) != 0 ? as : "");
}

static void put_json(FILE *f, const struct row *r, bool last)
{
    char buf[3][32];
    fprintf(
        f,
        "  {\"figure\": \"%s\", \"measured_as\": \"%s\", \"predicted\": %s, \"measured\": %s, \"off\": %s}%s\n",
        figure_table[r->part->predicted].name, measured_as(r->part), figure_text(r->predicted, buf[0]),
        figure_text(r->measured, buf[1]), figure_text(r->off, buf[2]), last ? "" : ",");
}

static void put_html(FILE *f, const struct row *r)
{
    struct texts w = {0};
    const struct figure *x = &figure_table[r->part->predicted], *y = &figure_table[r->part->measured];
    fprintf(f, "<tr><th>%s</th><td>%s</td><td>%s</td><td>%s</td></tr>\n", x->name,
            text_figure(&w, x, r->predicted), text_figure(&w, y, r->measured),
            text_as(&w, "%+.1f %%", 100 * r->off));
}

void beside_report(FILE *f, const struct plan *p, const struct summary *s, enum beside_form form)
{
    struct row rows[PARTS];
    for (int i = 0; i < PARTS; i++) {
        struct row *r = &rows[i];
        r->part = &parts[i];
        memcpy(&r->predicted, (const char *)&p->predict + parts[i].at, sizeof r->predicted);
        r->measured =
            parts[i].measured == NOT_MEASURED ? NAN : figure_value(s, &figure_table[parts[i].measured]);
        r->off = r->measured == r->predicted ? 0 : r->predicted > 0 ? r->measured / r->predicted - 1 : NAN;
    }
    qsort(rows, PARTS, sizeof *rows, worst_first);
    if (form == BESIDE_TEXT)
        fprintf(f, "%-18s%16s%16s%12s\n", "figure", "predicted", "measured", "off by");
    else if (form == BESIDE_JSON)
        fputs("[\n", f);
    else
        fputs("<table><caption>Predicted and measured</caption>\n<thead><tr><th></th><td>predicted</td>"
              "<td>measured</td><td>off by</td></tr></thead>\n",
              f);
    for (int i = 0; i < PARTS; i++)
        if (form == BESIDE_TEXT)
            put_text(f, &rows[i]);
        else if (form == BESIDE_JSON)
            put_json(f, &rows[i], i + 1 == PARTS);
        else
            put_html(f, &rows[i]);
    if (form != BESIDE_TEXT)
        fputs(form == BESIDE_JSON ? "]\n" : "</table>\n", f);
}

void beside_notices(const struct plan *p, const struct steplog *log)
{
    char crc[16];
    const struct log_segment *last = log->segment_count ? &log->segments[log->segment_count - 1] : NULL;
    snprintf(crc, sizeof crc, "%08x", p->crc32);
    if (!last || !last->started)
        notice("the log has no start record: whether it is of this plan is not known");
    else if (*last->plan && strcmp(last->plan, crc) != 0)
        notice("the log's last start is of another plan (%s, this one is %s)", last->plan, crc);
}

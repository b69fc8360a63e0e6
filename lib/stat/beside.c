/* SPDX-License-Identifier: MIT */
#include "stat/beside.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/notice.h"
#include "base/num.h"
#include "cost/cluster.h"
#include "cost/seconds.h"
#include "stat/texts.h"

/* A predicted figure, and the measured one that it should come out as, or NOT_MEASURED. To add one is to add a
 * row. */
#define NOT_MEASURED FIGURES
static const struct compared_figure {
    enum figure_id predicted, measured;
    size_t at; /* of a double in struct predict */
} figures[] = {
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

/* A part of step_s, which the parts add up to: phases that are measured, and what is predicted of them. */
static const struct compared_part {
    const char *name, *measured;
    unsigned phases; /* bits */
    unsigned parts;  /* bits of enum part */
    size_t at;       /* of another double in struct seconds; 0: none */
} parts[] = {
    {"computing_s", "forward + backward", 1u << PHASE_FORWARD | 1u << PHASE_BACKWARD,
     1u << PART_MATRIX | 1u << PART_ATTENTION | 1u << PART_EXPERTS | 1u << PART_MEMORY | 1u << PART_HEAD |
         1u << PART_HOST,
     0},
    {"dispatching_s", "dispatch + combine", 1u << PHASE_DISPATCH | 1u << PHASE_COMBINE, 1u << PART_DISPATCH, 0},
    {"tp_s", "tp", 1u << PHASE_TP, 1u << PART_TP, 0},
    {"waiting_s", "pp + idle", 1u << PHASE_PP | 1u << PHASE_IDLE, 0, offsetof(struct seconds, idle_s)},
    {"dp_s", "dp", 1u << PHASE_DP, 0, offsetof(struct seconds, dp_s)},
    {"optimizer_s", "optimizer", 1u << PHASE_OPTIMIZER, 0, offsetof(struct seconds, optimizer_s)},
};
enum { COMPARED = sizeof figures / sizeof *figures, COMPARED_PARTS = sizeof parts / sizeof *parts };

struct row {
    const char *name, *as; /* measured as, or "" */
    const struct figure *figure;
    bool is_part;
    int order;
    double predicted, measured, off; /* measured over predicted, less 1; NaN where one is unknown */
    double of_step;                  /* of a part: measured less predicted, over the measured step */
};

/* Figures by how many times they are off, whichever way; parts by what that costs; what is unknown last. */
static int worst_first(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    double u = fabs(x->is_part ? x->of_step : log1p(x->off)), v = fabs(y->is_part ? y->of_step : log1p(y->off));
    if (isnan(u) || isnan(v))
        return isnan(u) != isnan(v) ? isnan(u) - isnan(v) : x->order - y->order;
    return u != v ? (u < v) - (u > v) : x->order - y->order;
}

struct known_figures beside_known(const struct plan *p)
{
    double peak = machine_peak(&p->machine, p->training.precision);
    return (struct known_figures){.flops_per_token = p->predict.flops_per_token,
                                  .peak_flops = peak > 0 ? peak : NAN,
                                  .device_bytes = p->machine.memory_bytes > 0 ? p->machine.memory_bytes : NAN};
}

/* ---- rows ---- */

static struct row make_row(const char *name, const char *as, double predicted, double measured)
{
    return (struct row){.name = name,
                        .as = as,
                        .predicted = predicted,
                        .measured = measured,
                        .off = measured == predicted ? 0
                               : predicted > 0       ? measured / predicted - 1
                                                     : NAN,
                        .of_step = NAN};
}

static void make_figures(struct row to[static COMPARED], const struct plan *p, const struct summary *s)
{
    for (int i = 0; i < COMPARED; i++) {
        const struct compared_figure *x = &figures[i];
        bool known = x->measured != NOT_MEASURED;
        double predicted;
        memcpy(&predicted, (const char *)&p->predict + x->at, sizeof predicted);
        to[i] = make_row(figure_table[x->predicted].name, known ? figure_table[x->measured].name : "",
                         predicted, known ? figure_value(s, &figure_table[x->measured]) : NAN);
        to[i].figure = &figure_table[x->predicted];
        to[i].order = i;
    }
    qsort(to, COMPARED, sizeof *to, worst_first);
}

static double measured_s(const struct compared_part *x, const struct summary *s)
{
    double sum = 0;
    for (int i = 0; i < PHASES; i++)
        if (x->phases >> i & 1)
            sum += s->value[FIGURE_forward_share + i] * s->step_s;
    return sum;
}

static double predicted_s(const struct compared_part *x, const struct seconds *t)
{
    double sum = 0;
    if (x->at)
        memcpy(&sum, (const char *)t + x->at, sizeof sum);
    for (int i = 0; i < PARTS; i++)
        if (x->parts >> i & 1)
            sum += t->part_s[i];
    return sum > 1e-12 * t->step_s ? sum : 0; /* not what rounding left */
}

/* 0 where the seconds of the plan were counted by other formulas than ours. */
static int make_parts(struct row to[static COMPARED_PARTS], const struct plan *p, const struct summary *s)
{
    struct seconds t;
    if (p->predict.seconds != SECONDS_VERSION || plan_seconds(p, 1, &t) < 0)
        return 0;
    for (int i = 0; i < COMPARED_PARTS; i++) {
        to[i] =
            make_row(parts[i].name, parts[i].measured, predicted_s(&parts[i], &t), measured_s(&parts[i], s));
        to[i].figure = &figure_table[FIGURE_step_s];
        to[i].is_part = true;
        to[i].order = i;
        to[i].of_step = (to[i].measured - to[i].predicted) / s->step_s;
    }
    qsort(to, COMPARED_PARTS, sizeof *to, worst_first);
    return COMPARED_PARTS;
}

/* ---- tables ---- */

/* What is off by many times is so as a factor. */
static const char *off_text(struct texts *w, double off)
{
    return off < 10 ? text_as(w, "%+.1f %%", 100 * off) : text_as(w, "%.0f times", 1 + off);
}

static void put_text(FILE *f, const struct row *rows, int count, const char *title, const char *last)
{
    fprintf(f, "%-18s%16s%16s%14s%s\n", title, "predicted", "measured", "off by", last);
    for (int i = 0; i < count; i++) {
        struct texts w = {0};
        const struct row *r = &rows[i];
        bool bytes = r->figure->unit == UNIT_BYTES;
        fprintf(f, "%-18s%16s%16s%14s", r->name,
                bytes ? text_bytes(&w, r->predicted) : text_number(&w, r->predicted),
                bytes ? text_bytes(&w, r->measured) : text_number(&w, r->measured), off_text(&w, r->off));
        if (r->is_part)
            fprintf(f, "%12s", text_as(&w, "%+.1f %%", 100 * r->of_step));
        fprintf(f, "%s%s\n", *r->as && strcmp(r->as, r->name) != 0 ? "   measured: " : "",
                strcmp(r->as, r->name) != 0 ? r->as : "");
    }
}

static void put_json(FILE *f, const struct row *rows, int count)
{
    char buf[4][32];
    fputs("[\n", f);
    for (int i = 0; i < count; i++) {
        const struct row *r = &rows[i];
        fprintf(
            f,
            "  {\"figure\": \"%s\", \"measured_as\": \"%s\", \"predicted\": %s, \"measured\": %s, \"off\": %s",
            r->name, r->as, figure_text(r->predicted, buf[0]), figure_text(r->measured, buf[1]),
            figure_text(r->off, buf[2]));
        if (r->is_part)
            fprintf(f, ", \"of_step\": %s", figure_text(r->of_step, buf[3]));
        fprintf(f, "}%s\n", i + 1 < count ? "," : "");
    }
    fputs("]\n", f);
}

static void put_html(FILE *f, const struct row *rows, int count, const char *title, const char *last)
{
    fprintf(f,
            "<table><caption>%s</caption>\n<thead><tr><th></th><td>predicted</td>"
            "<td>measured</td><td>off by</td>%s</tr></thead>\n",
            title, last);
    for (int i = 0; i < count; i++) {
        struct texts w = {0};
        const struct row *r = &rows[i];
        fprintf(f, "<tr><th>%s</th><td>%s</td><td>%s</td><td>%s</td>", r->name,
                text_figure(&w, r->figure, r->predicted), text_figure(&w, r->figure, r->measured),
                off_text(&w, r->off));
        if (r->is_part)
            fprintf(f, "<td>%s</td>", text_as(&w, "%+.1f %%", 100 * r->of_step));
        fputs("</tr>\n", f);
    }
    fputs("</table>\n", f);
}

void beside_report(FILE *f, const struct plan *p, const struct summary *s, enum beside_form form)
{
    struct row rows[COMPARED + COMPARED_PARTS];
    make_figures(rows, p, s);
    int n = make_parts(rows + COMPARED, p, s);
    if (form == BESIDE_JSON) {
        put_json(f, rows, COMPARED + n);
    } else if (form == BESIDE_HTML) {
        put_html(f, rows, COMPARED, "Predicted and measured", "");
        if (n)
            put_html(f, rows + COMPARED, n, "Parts of step_s", "<td>of the step</td>");
    } else {
        put_text(f, rows, COMPARED, "figure", "");
        if (n)
            fputc('\n', f);
        if (n)
            put_text(f, rows + COMPARED, n, "part of step_s", " of the step");
    }
}

void beside_notices(const struct plan *p, const struct steplog *log)
{
    char crc[16];
    if (p->predict.seconds && p->predict.seconds != SECONDS_VERSION)
        notice("the plan's seconds are of other formulas than this moe-stat's: their parts are not known");
    const struct log_segment *last = log->segment_count ? &log->segments[log->segment_count - 1] : NULL;
    snprintf(crc, sizeof crc, "%08x", p->crc32);
    if (!last || !last->started)
        notice("the log has no start record: whether it is of this plan is not known");
    else if (*last->plan && strcmp(last->plan, crc) != 0)
        notice("the log's last start is of another plan (%s, this one is %s)", last->plan, crc);
}

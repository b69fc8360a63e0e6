/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <string.h>

#include "stat/report.h"
#include "stat/texts.h"

/* Text of a cell: what would end it or begin markup is escaped. */
static void cell(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (strchr("|\\`*_<>[]", *text))
            fputc('\\', f);
        fputc(*text, f);
    }
}

/* A table of the figures from one to another that are known. */
static void table(FILE *f, const struct report *r, const char *title, enum figure_id first, enum figure_id last)
{
    struct texts w = {0};
    fprintf(f, "\n| %s | |\n|---|--:|\n", title);
    for (int i = first; i <= (int)last; i++) {
        const struct figure *x = &figure_table[i];
        double v = figure_value(&r->s, x);
        if (isnan(v))
            continue;
        fputs("| ", f);
        cell(f, x->name);
        fprintf(f, " | %s |\n", text_figure(&w, x, v));
    }
}

const struct report_group report_groups[] = {
    {"speed", FIGURE_tokens, FIGURE_flops_per_token},
    {"training", FIGURE_loss_first, FIGURE_nan_steps},
    {"where a step's time goes", FIGURE_forward_share, FIGURE_straggler_share},
    {"experts", FIGURE_expert_load_std, FIGURE_overflow},
    {"memory and events", FIGURE_peak_bytes, FIGURE_skipped_lines},
    {NULL, 0, 0},
};

void report_markdown(FILE *f, const struct report *r)
{
    const struct steplog *log = r->log;
    struct texts w = {0};
    fputs("**", f);
    cell(f, *log->model ? log->model : "a run");
    fprintf(f, "**, %.0f steps", r->s.steps);
    if (log->world > 0)
        fprintf(f, " on %d ranks", log->world);
    if (*log->precision) {
        fputs(", ", f);
        cell(f, log->precision);
    }
    fprintf(f, "; the first %lld steps are left out of speed", (long long)r->skip);
    if (log->peak_flops > 0)
        fprintf(f, "; MFU by Megatron's convention, against a peak of %sFLOP/s a rank",
                text_scaled(&w, log->peak_flops, LETTERS_SI));
    fputs(".\n", f);
    for (const struct report_group *g = report_groups; g->title; g++)
        table(f, r, g->title, g->first, g->last);
}

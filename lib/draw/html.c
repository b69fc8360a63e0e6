/* SPDX-License-Identifier: MIT */
#include "draw/html.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/file.h"
#include "base/num.h"
#include "plan/schedule.h"
#include "stat/beside.h"
#include "stat/texts.h"

/* ---- the head ---- */

static void named(FILE *f, const char *before, const char *text)
{
    if (!*text)
        return;
    fputs(before, f);
    html_text(f, text);
}

static void head(FILE *f, const struct report *r)
{
    const struct steplog *log = r->log;
    const char *name = *log->model ? log->model : "A training run";
    struct texts w = {0};
    fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
          "content=\"width=device-width, initial-scale=1\">\n<title>",
          f);
    html_text(f, name);
    fprintf(f, ": %.0f steps</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", r->s.steps,
            html_style);
    html_text(f, name);
    fprintf(f, "</h1>\n<p class=\"dim\">Steps %.0f to %.0f", r->s.first_step, r->s.last_step);
    if (log->world > 0)
        fprintf(f, " on %d rank%s", log->world, plural(log->world));
    named(f, ", ", log->backend);
    named(f, ", ", log->precision);
    if (log->parameters > 0)
        fprintf(f, "; %s parameters", text_scaled(&w, (double)log->parameters, LETTERS_COUNT));
    if (log->active_parameters > 0)
        fprintf(f, ", %s of them active", text_scaled(&w, (double)log->active_parameters, LETTERS_COUNT));
    if (strcmp(log->kind, "moekit") != 0)
        named(f, "; a log of ", log->kind);
    fputs("</p>\n<p class=\"dim\">", f);
    if (*log->end_reason)
        named(f, "Ended: ", log->end_reason);
    else
        fputs("No word of an end: it still runs, or was killed", f);
    fputs("</p>\n", f);
}

static void card(FILE *f, const char *what, const char *value, const char *more)
{
    fprintf(f, "<div><small>%s</small><b>%s</b><small>%s</small></div>\n", what, value, more);
}

static void cards(FILE *f, const struct report *r)
{
    const struct summary *s = &r->s;
    struct texts w = {0};
    char more[8][80] = {""};
    snprintf(more[0], sizeof *more, "p50 %s, p95 %s", text_scaled(&w, s->tokens_per_s_p50, LETTERS_COUNT),
             text_scaled(&w, s->tokens_per_s_p95, LETTERS_COUNT));
    snprintf(more[1], sizeof *more, s->flops_per_token > 0 ? "%sFLOP a token" : "FLOP a token unknown",
             text_scaled(&w, s->flops_per_token, LETTERS_SI));
    snprintf(more[2], sizeof *more, "p50 %s, p95 %s", text_number(&w, s->step_s_p50),
             text_number(&w, s->step_s_p95));
    snprintf(more[3], sizeof *more, "from %s%s%s", text_as(&w, "%.4f", s->loss_first),
             isfinite(s->eval_loss) ? ", evaluation " : "",
             isfinite(s->eval_loss) ? text_as(&w, "%.4f", s->eval_loss) : "");
    snprintf(more[4], sizeof *more, "busiest over mean; std %s", text_number(&w, s->expert_load_std));
    snprintf(more[5], sizeof *more,
             isfinite(s->memory_used) ? "%s of the device's" : "of the rank that has most",
             text_percent(&w, s->memory_used, 1));
    fputs("<div class=\"cards\">\n", f);
    card(f, "Tokens a second", text_scaled(&w, s->tokens_per_s, LETTERS_COUNT), more[0]);
    if (isfinite(s->mfu))
        card(f, "MFU", text_percent(&w, s->mfu, 1), more[1]);
    card(f, "Seconds a step", text_number(&w, s->step_s), more[2]);
    card(f, "Loss at the end", text_as(&w, "%.4f", s->loss_last), more[3]);
    if (isfinite(s->expert_load_max_over_mean))
        card(f, "Experts' imbalance", text_number(&w, s->expert_load_max_over_mean), more[4]);
    if (isfinite(s->peak_bytes))
        card(f, "Memory", text_bytes(&w, s->peak_bytes), more[5]);
    fputs("</div>\n", f);
}

/* ---- pictures ---- */

static int pictures(FILE *f, const struct page *page)
{
    static const struct {
        const char *title, *caption;
    } said[PANELS] = {
        [PANEL_LOSS] = {"Loss", "Language-model loss a token, in nats."},
        [PANEL_SPEED] = {"Throughput", "Tokens a second, of all ranks together."},
        [PANEL_PHASES] = {"Where the time of a step goes", "Mean over ranks; phases exclude each other."},
        [PANEL_IMBALANCE] = {"Imbalance of the experts' loads",
                             "Rows of the busiest expert over the mean, averaged over layers."},
        [PANEL_EXPERTS] = {"Load of each expert", "Over the whole log; 1 is the mean of the layer."},
        [PANEL_GRADIENT] = {"Gradient norm", "Over all parameters, before clipping."},
        [PANEL_SCHEDULE] = {"What each rank did when", "One step, from the ranks' timelines."},
    };
    fputs("<section>\n<h2>The run</h2>\n<div class=\"panels\">\n", f);
    for (int i = 0; i < PANELS; i++) {
        if (!panel_known(page->picture, (enum panel)i))
            continue;
        fprintf(f, "<figure%s>\n<h3>%s</h3>\n", i == PANEL_SCHEDULE ? " class=\"wide\"" : "", said[i].title);
        TRY(html_panel(f, page->picture, (enum panel)i, i));
        fprintf(f, "<figcaption>%s</figcaption>\n</figure>\n", said[i].caption);
    }
    fputs("</div>\n", f);
    if (page->report->log->starts > 1)
        fputs("<p class=\"dim\">Dotted lines: where the run was started again.</p>\n", f);
    fputs("</section>\n", f);
    return 0;
}

/* ---- tables ---- */

static void figures(FILE *f, const struct report *r)
{
    struct texts w = {0};
    fputs("<section>\n<h2>Figures</h2>\n<div class=\"tables\">\n", f);
    for (const struct report_group *g = report_groups; g->title; g++) {
        bool any = false;
        for (int i = g->first; i <= (int)g->last; i++) {
            const struct figure *x = &figure_table[i];
            double v = figure_value(&r->s, x);
            if (isnan(v))
                continue;
            if (!any)
                fprintf(f, "<table><caption>%s</caption>\n", g->title);
            any = true;
            fprintf(f, "<tr><th title=\"");
            html_text(f, x->meaning);
            fprintf(f, "\">%s</th><td>%s</td></tr>\n", x->name, text_figure(&w, x, v));
        }
        if (any)
            fputs("</table>\n", f);
    }
    fputs("</div>\n</section>\n", f);
}

static void layers(FILE *f, const struct report *r)
{
    struct texts w = {0};
    if (!r->loads || !r->loads->sum)
        return;
    fputs("<section>\n<h2>Experts, layer by layer</h2>\n<details><summary>How even their loads are</summary>\n"
          "<div class=\"scroll\"><table>\n<thead><tr><th>MoE "
          "layer</th><td>max/mean</td><td>min/mean</td><td>cv</td>"
          "<td>entropy</td><td>drift</td><td>dead</td><td>hottest</td><td>coldest</td></tr></thead>\n",
          f);
    for (int i = 0; i < r->loads->layers; i++) {
        struct layer_balance b;
        loads_layer(&b, r->loads, i);
        fprintf(f,
                "<tr><th>%d</th><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%d</td><td>%d</td>"
                "<td>%d</td></tr>\n",
                i, text_as(&w, "%.3f", b.max_over_mean), text_as(&w, "%.3f", b.min_over_mean),
                text_as(&w, "%.4f", b.cv), text_as(&w, "%.4f", b.entropy), text_percent(&w, b.drift, 1), b.dead,
                b.hottest, b.coldest);
    }
    fputs("</table></div></details>\n</section>\n", f);
}

static void starts(FILE *f, const struct report *r)
{
    const struct steplog *log = r->log;
    struct texts w = {0};
    if (log->starts < 2)
        return;
    struct segment_figures *speed = summary_segments(r->log, r->skip);
    fputs("<section>\n<h2>Starts</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th>run</th><td>from step</td>"
          "<td>ranks</td><td>steps that count</td><td>tokens/s</td><td>MFU</td></tr></thead>\n",
          f);
    for (int i = 0; i < log->segment_count; i++) {
        const struct log_segment *g = &log->segments[i];
        fputs("<tr><th>", f);
        if (*g->run)
            html_text(f, g->run);
        else
            fprintf(f, "%d", i + 1);
        fprintf(f, "%s</th><td>%s</td><td>%s</td><td>%zu</td><td>%s</td><td>%s</td></tr>\n",
                g->up_to == INT64_MIN ? " (abandoned)" : "",
                text_count(&w, g->from < 0 ? NAN : (double)g->from),
                text_count(&w, g->world > 0 ? g->world : NAN), g->count, text_number(&w, speed[i].tokens_per_s),
                text_percent(&w, speed[i].mfu, 2));
    }
    free(speed);
    fputs("</table></div>\n</section>\n", f);
}

/* ---- the plan ---- */

static void number(FILE *f, const char *what, int64_t n)
{
    fprintf(f, "<tr><th>%s</th><td>%" PRId64 "</td></tr>\n", what, n);
}

static void layout(FILE *f, const struct plan *p)
{
    fputs("<table><caption>Layout</caption>\n", f);
    number(f, "ranks", p->world);
    number(f, "tensor parallel (tp)", p->axes.tp);
    number(f, "context parallel (cp)", p->axes.cp);
    number(f, "data parallel (dp)", p->axes.dp);
    number(f, "expert parallel (ep)", p->axes.ep);
    number(f, "experts' tensor parallel (etp)", p->axes.etp);
    number(f, "experts' data parallel (edp)", p->axes.edp);
    number(f, "pipeline stages (pp)", p->axes.pp);
    number(f, "chunks a stage (vpp)", p->axes.vpp);
    fputs("</table>\n<table><caption>Work</caption>\n", f);
    number(f, "tokens a sequence", p->batch.seq);
    number(f, "sequences a microbatch", p->batch.micro);
    number(f, "sequences a step", p->batch.global);
    number(f, "microbatches a step", p->batch.microbatches);
    fprintf(f,
            "<tr><th>schedule</th><td>%s</td></tr>\n<tr><th>precision</th><td>%s</td></tr>\n"
            "<tr><th>recompute</th><td>%s</td></tr>\n",
            plan_schedule(p)->name, precision_name[p->training.precision],
            recompute_name[p->training.recompute]);
    number(f, "ZeRO", p->training.zero);
    fputs("</table>\n", f);
}

static int plan(FILE *f, const struct page *page)
{
    enum { MOST = 1 << 18 };
    if (!page->plan)
        return 0;
    fputs("<section>\n<h2>The plan</h2>\n<div class=\"tables\">\n", f);
    layout(f, page->plan);
    fputs("</div>\n<div class=\"tables wide\">\n", f);
    beside_report(f, page->plan, &page->report->s, BESIDE_HTML);
    fputs("</div>\n", f);
    size_t n;
    bool there = strcmp(page->plan_path, "-") != 0 && file_exists(page->plan_path);
    char *text = there ? file_read(page->plan_path, MOST, &n) : NULL;
    if (text) {
        fputs("<details><summary>Its text</summary><pre>", f);
        html_text(f, text);
        fputs("</pre></details>\n", f);
    } else if (there) {
        fputs("<p>Its text is left out: ", f);
        html_text(f, error_text());
        fputs("</p>\n", f);
        error_clear();
    }
    free(text);
    fputs("</section>\n", f);
    return 0;
}

static void foot(FILE *f, const struct page *page)
{
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    strftime(when, sizeof when, "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &tm));
    fprintf(f, "<footer>Made by moe-stat " VERSION " on %s from ", when);
    for (int i = 0; i < page->log_count; i++)
        named(f, i ? ", " : "", page->logs[i]);
    if (page->report->skip > 0)
        fprintf(f, "; the first %" PRId64 " steps are left out of speed", page->report->skip);
    if (page->report->log->skipped_lines)
        fprintf(f, "; %zu lines of it are no records", page->report->log->skipped_lines);
    fputs(". A figure's definition appears under the pointer, and is in "
          "moe-figures(5).</footer>\n</main>\n</body>\n"
          "</html>\n",
          f);
}

int html_write(FILE *f, const struct page *page)
{
    head(f, page->report);
    cards(f, page->report);
    TRY(pictures(f, page));
    figures(f, page->report);
    layers(f, page->report);
    starts(f, page->report);
    TRY(plan(f, page));
    foot(f, page);
    return 0;
}

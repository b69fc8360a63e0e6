/* SPDX-License-Identifier: MIT */
#include "stat/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"

/* ---- text ---- */

struct texts {
    char s[8][40];
    int next;
};

/* The value as printf would have it, or `-`; good until eight more were asked for. */
static const char *word(struct texts *w, const char *fmt, double value)
{
    char *s = w->s[w->next++ % 8];
    if (isfinite(value))
        snprintf(s, sizeof w->s[0], fmt, value);
    else
        strcpy(s, "-");
    return s;
}

/* A number with the digits that matter, never in powers of ten where people would not write one. */
static const char *plain(struct texts *w, double v)
{
    double a = fabs(v);
    return word(w, a >= 1000 ? "%.0f" : a >= 100 ? "%.1f" : a >= 1 || a == 0 ? "%.3f" : "%.4g", v);
}

/* With one of six letters for thousands, millions, ...: people say 7B parameters and 2 GFLOP. */
static const char *scaled(struct texts *w, double v, const char *letters)
{
    int u = 0;
    if (!isfinite(v))
        return word(w, "", v);
    for (; fabs(v) >= 999.5 && u < 6; u++)
        v /= 1000;
    char *s = w->s[w->next++ % 8];
    snprintf(s, sizeof w->s[0], "%.3g%s%.*s", v, letters[0] == ' ' ? " " : "", u > 0, letters + u);
    return s;
}

static void text_header(FILE *f, struct steplog *log, const struct summary *s, struct texts *w)
{
    fprintf(f, "%s", *log->model ? log->model : "(no start record)");
    if (log->world > 0)
        fprintf(f, ", %d rank%s", log->world, log->world == 1 ? "" : "s");
    if (*log->backend)
        fprintf(f, ", %s", log->backend);
    if (*log->precision)
        fprintf(f, ", %s", log->precision);
    if (log->parameters > 0)
        fprintf(f, ", %s parameters", scaled(w, (double)log->parameters, "-KMBTPE"));
    if (log->active_parameters > 0)
        fprintf(f, " (%s active)", scaled(w, (double)log->active_parameters, "-KMBTPE"));
    fprintf(f, "\n%-12s%.0f to %.0f (%.0f)", "steps", s->first_step, s->last_step, s->steps);
    if (s->steps_counted != s->steps)
        fprintf(f, ", %.0f counted for speed", s->steps_counted);
    if (log->abandoned)
        fprintf(f, "\n%-12s%zu: steps that were gone back on, or repeated; they count nowhere", "abandoned",
                log->abandoned);
    fprintf(f, "\n\n");
}

static void text_figures(FILE *f, struct steplog *log, const struct summary *s, struct texts *w)
{
    fprintf(f, "%-12s%s -> %s", "loss", word(w, "%.4f", s->loss_first), word(w, "%.4f", s->loss_last));
    if (log->evals)
        fprintf(f, "   eval %s (step %.0f)", word(w, "%.4f", s->eval_loss),
                steplog_eval(log, log->evals - 1)->step);
    fprintf(f, "\n%-12s%s   p50 %s  p95 %s  p99 %s\n", "tokens/s", plain(w, s->tokens_per_s),
            plain(w, s->tokens_per_s_p50), plain(w, s->tokens_per_s_p95), plain(w, s->tokens_per_s_p99));
    fprintf(f, "%-12s%s s   p50 %s  p95 %s\n", "step", plain(w, s->step_s), plain(w, s->step_s_p50),
            plain(w, s->step_s_p95));
    fprintf(f, "%-12s%s", "MFU", word(w, isfinite(s->mfu) ? "%.2f %%" : "", 100 * s->mfu));
    if (log->flops_per_token > 0)
        fprintf(f, "   %sFLOP a token", scaled(w, log->flops_per_token, " kMGTPE"));
    if (log->peak_flops > 0)
        fprintf(f, ", peak %sFLOP/s a rank", scaled(w, log->peak_flops, " kMGTPE"));
    fprintf(f, "\n\n");
}

static void text_phases(FILE *f, const struct summary *s, struct texts *w)
{
    fprintf(f, "%-12s%10s%9s\n", "phase", "s a step", "share");
    for (int p = 0; p < PHASES; p++)
        fprintf(f, "%-12s%10s%9s\n", phase_name[p],
                word(w, "%.4f", s->value[FIGURE_forward_share + p] * s->step_s),
                word(w, "%.1f %%", 100 * s->value[FIGURE_forward_share + p]));
    fputc('\n', f);
}

/* Where the run was started more than once: a line for each of the last starts. */
static void text_segments(FILE *f, struct steplog *log, int64_t skip, struct texts *w)
{
    enum { MOST = 8 };
    if (log->starts < 2)
        return;
    int first = log->segment_count > MOST ? log->segment_count - MOST : 0;
    fprintf(f, "%-12s%10s%9s%9s%12s%10s\n", "start", "from step", "ranks", "steps", "tokens/s", "MFU");
    if (first)
        fprintf(f, "(%d before)\n", first);
    struct segment_speed *speed = summary_segments(log, skip);
    for (int i = first; i < log->segment_count; i++) {
        const struct log_segment *g = &log->segments[i];
        struct segment_speed s = speed[i];
        char name[12];
        if (*g->run)
            snprintf(name, sizeof name, "%.11s", g->run);
        else
            snprintf(name, sizeof name, "%d", i + 1);
        fprintf(f, "%-12s%10s%9s%9zu%12s%10s%s\n", name, word(w, "%.0f", g->from < 0 ? NAN : (double)g->from),
                word(w, "%.0f", g->world > 0 ? g->world : NAN), g->count, plain(w, s.tokens_per_s),
                word(w, "%.2f %%", 100 * s.mfu), g->up_to == INT64_MIN ? "  abandoned" : "");
    }
    free(speed);
    fputc('\n', f);
}

static void text_rest(FILE *f, struct steplog *log, const struct loads *loads, const struct summary *s,
                      struct texts *w)
{
    char bytes[24];
    fprintf(f, "%-12smax/mean %s  std %s", "expert load", plain(w, s->expert_load_max_over_mean),
            plain(w, s->expert_load_std));
    if (loads && loads->layers)
        fprintf(f, "   (%d layers of %d)", loads->layers, loads->experts);
    fprintf(f, "\n%-12smax/mean %s  std %s\n", "  a step", plain(w, s->step_load_max_over_mean),
            plain(w, s->step_load_std));
    fprintf(f, "%-12s%.0f rows\n", "dropped", s->dropped);
    fprintf(f, "%-12s%.0f layers took more than one pass\n", "overflow", s->overflow);
    fprintf(f, "%-12s%s\n", "memory", isfinite(s->peak_bytes) ? human_bytes(s->peak_bytes, bytes) : "-");
    fprintf(f, "%-12s%zu evals, %zu saves, %zu faults", "events", log->evals, log->saves, log->faults);
    if (s->restarts > 0)
        fprintf(f, ", %.0f restart%s", s->restarts, s->restarts > 1 ? "s" : "");
    if (log->skipped_lines)
        fprintf(f, ", %zu lines that are not records", log->skipped_lines);
    fprintf(f, "\n%-12s%s\n", "ended",
            *log->end_reason ? log->end_reason : "no word of an end: it still runs, or was killed");
}

void report_text(FILE *f, struct steplog *log, const struct loads *loads, const struct summary *s, int64_t skip)
{
    struct texts w = {0};
    text_header(f, log, s, &w);
    text_figures(f, log, s, &w);
    text_phases(f, s, &w);
    text_segments(f, log, skip, &w);
    text_rest(f, log, loads, s, &w);
}

/* ---- for programs ---- */

static const char *value_text(double v, const char *unknown, char buf[static 32])
{
    return isnan(v) ? unknown : figure_text(v, buf);
}

static void put_text(FILE *f, const char *key, const char *value)
{
    json_t *s = *value ? json_bytes(value) : NULL;
    fprintf(f, "  \"%s\": ", key);
    if (!s || json_dumpf(s, f, JSON_ENCODE_ANY) < 0)
        fputs("null", f);
    fputs(",\n", f);
    json_decref(s);
}

void report_json(FILE *f, struct steplog *log, const struct summary *s)
{
    char buf[32];
    fputs("{\n", f);
    put_text(f, "model", log->model);
    put_text(f, "backend", log->backend);
    put_text(f, "precision", log->precision);
    put_text(f, "end_reason", log->end_reason);
    fprintf(f, "  \"world\": %s", log->world > 0 ? value_text(log->world, "", buf) : "null");
    for (int i = 0; i < FIGURES && figure_table[i].origin & MEASURED; i++)
        fprintf(f, ",\n  \"%s\": %s", figure_table[i].name,
                value_text(figure_value(s, &figure_table[i]), "null", buf));
    fputs("\n}\n", f);
}

static void csv_text(FILE *f, const char *value)
{
    if (!strpbrk(value, ",\"\r\n")) {
        fputs(value, f);
        return;
    }
    fputc('"', f);
    for (; *value; value++) {
        if (*value == '"')
            fputc('"', f);
        fputc(*value, f);
    }
    fputc('"', f);
}

void report_csv(FILE *f, struct steplog *log, const struct summary *s)
{
    char buf[32];
    fputs("model,backend,precision,world", f);
    for (int i = 0; i < FIGURES && figure_table[i].origin & MEASURED; i++)
        fprintf(f, ",%s", figure_table[i].name);
    fputc('\n', f);
    csv_text(f, log->model);
    fputc(',', f);
    csv_text(f, log->backend);
    fputc(',', f);
    csv_text(f, log->precision);
    fprintf(f, ",%s", log->world > 0 ? value_text(log->world, "", buf) : "");
    for (int i = 0; i < FIGURES && figure_table[i].origin & MEASURED; i++)
        fprintf(f, ",%s", value_text(figure_value(s, &figure_table[i]), "", buf));
    fputc('\n', f);
}

int report_loads(FILE *f, const struct loads *l)
{
    char buf[32];
    if (!l->layers)
        return error(STATUS_USAGE,
                     "the log has no expert_load (moe-train writes it every --loads-every steps)");
    for (int i = 0; i < l->layers; i++)
        for (int e = 0; e < l->experts; e++)
            fprintf(f, "%s%c", value_text(l->sum[(size_t)i * (size_t)l->experts + (size_t)e], "0", buf),
                    e + 1 < l->experts ? ' ' : '\n');
    return 0;
}

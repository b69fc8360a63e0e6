/* SPDX-License-Identifier: MIT */
#include "stat/report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"

static const char *value_text(double v, const char *unknown, char buf[static 32])
{
    return isfinite(v) ? figure_text(v, buf) : unknown;
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

/* ---- JSON ---- */

static void put_stages(FILE *f, const struct steplog *log)
{
    struct stage_memory m;
    char buf[32];
    report_stages(log, &m);
    fputs("    \"memory_by_stage\": [", f);
    for (int k = 0; k < m.count; k++)
        fprintf(f, "%s{\"stage\": %d, \"bytes\": %s, \"rank\": %d}", k ? ", " : "", k,
                value_text(m.bytes[k], "null", buf), m.rank[k]);
    fputs("],\n", f);
}

static void put_stragglers(FILE *f, const struct report *r)
{
    struct straggler s[PHASES];
    const char *comma = "";
    char a[32], b[32];
    summary_stragglers(s, r->log, r->skip);
    fputs("    \"stragglers\": [", f);
    for (int p = 0; p < PHASES; p++, comma = ",")
        fprintf(
            f,
            "%s\n      {\"phase\": \"%s\", \"rank\": %d, \"times\": %.0f, \"steps\": %.0f, \"over_mean\": %s, "
            "\"excess_share\": %s}",
            comma, phase_name[p], s[p].rank, s[p].times, s[p].steps, value_text(s[p].excess, "null", a),
            value_text(s[p].excess_share, "null", b));
    fputs("],\n", f);
}

/* Of the phases whose mean over ranks a log does not tell. */
static void put_bounds(FILE *f, const struct report *r)
{
    struct phase_bounds b[PHASES];
    const char *comma = "";
    char least[32], most[32];
    summary_bounds(b, &r->s, r->log, r->skip);
    fputs("    \"phase_bounds\": [", f);
    for (int p = 0; p < PHASES; p++)
        if (isfinite(b[p].most_share)) {
            fprintf(f, "%s{\"phase\": \"%s\", \"least_share\": %s, \"most_share\": %s}", comma, phase_name[p],
                    value_text(b[p].least_share, "null", least), value_text(b[p].most_share, "null", most));
            comma = ", ";
        }
    fputs("],\n", f);
}

static void put_segments(FILE *f, const struct report *r)
{
    struct segment_figures *speed = summary_segments(r->log, r->skip);
    const char *comma = "";
    char a[4][32];
    fputs("    \"starts\": [", f);
    for (int i = 0; i < r->log->segment_count; i++, comma = ",") {
        const struct log_segment *g = &r->log->segments[i];
        fprintf(f,
                "%s\n      {\"from\": %lld, \"world\": %d, \"experts\": %d, \"steps\": %zu, \"abandoned\": %s, "
                "\"tokens_per_s\": %s, \"mfu\": %s, \"first_loss\": %s, \"last_loss\": %s}",
                comma, (long long)g->from, g->world, g->experts, g->count,
                g->up_to == INT64_MIN ? "true" : "false", value_text(speed[i].tokens_per_s, "null", a[0]),
                value_text(speed[i].mfu, "null", a[1]), value_text(speed[i].first_loss, "null", a[2]),
                value_text(speed[i].last_loss, "null", a[3]));
    }
    fputs("],\n", f);
    free(speed);
}

static void put_experts(FILE *f, const struct loads *l)
{
    const char *comma = "";
    fputs("    \"experts\": [", f);
    for (int i = 0; l && i < l->layers; i++, comma = ",") {
        struct layer_balance b;
        char t[7][32];
        loads_layer(&b, l, i);
        fprintf(f,
                "%s\n      {\"layer\": %d, \"mean\": %s, \"std\": %s, \"cv\": %s, \"max_over_mean\": %s, "
                "\"min_over_mean\": %s, \"entropy\": %s, \"drift\": %s, \"dead\": %d, \"hottest\": %d, "
                "\"coldest\": %d}",
                comma, i, value_text(b.mean, "null", t[0]), value_text(b.std, "null", t[1]),
                value_text(b.cv, "null", t[2]), value_text(b.max_over_mean, "null", t[3]),
                value_text(b.min_over_mean, "null", t[4]), value_text(b.entropy, "null", t[5]),
                value_text(b.drift, "null", t[6]), b.dead, b.hottest, b.coldest);
    }
    fputs("]\n", f);
}

void report_json(FILE *f, const struct report *r)
{
    const struct steplog *log = r->log;
    char buf[32];
    fputs("{\n", f);
    put_text(f, "model", log->model);
    put_text(f, "backend", log->backend);
    put_text(f, "precision", log->precision);
    put_text(f, "end_reason", log->end_reason);
    fprintf(f, "  \"world\": %s", log->world > 0 ? value_text(log->world, "", buf) : "null");
    for (int i = 0; i < FIGURES; i++)
        if (figure_table[i].origin & MEASURED)
            fprintf(f, ",\n  \"%s\": %s", figure_table[i].name,
                    value_text(figure_value(&r->s, &figure_table[i]), "null", buf));
    fprintf(f, ",\n  \"detail\": {\n    \"skipped_steps\": %lld,\n    \"flops_convention\": \"megatron\",\n",
            (long long)r->skip);
    fprintf(f, "    \"peak_flops\": %s,\n",
            log->peak_flops > 0 ? value_text(log->peak_flops, "", buf) : "null");
    put_stages(f, log);
    put_bounds(f, r);
    put_stragglers(f, r);
    put_segments(f, r);
    put_experts(f, r->loads);
    fputs("  }\n}\n", f);
}

/* ---- csv ---- */

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

void report_csv(FILE *f, const struct report *r)
{
    const struct steplog *log = r->log;
    char buf[32];
    fputs("model,backend,precision,world", f);
    for (int i = 0; i < FIGURES; i++)
        if (figure_table[i].origin & MEASURED)
            fprintf(f, ",%s", figure_table[i].name);
    fputc('\n', f);
    csv_text(f, log->model);
    fputc(',', f);
    csv_text(f, log->backend);
    fputc(',', f);
    csv_text(f, log->precision);
    fprintf(f, ",%s", log->world > 0 ? value_text(log->world, "", buf) : "");
    for (int i = 0; i < FIGURES; i++)
        if (figure_table[i].origin & MEASURED)
            fprintf(f, ",%s", value_text(figure_value(&r->s, &figure_table[i]), "", buf));
    fputc('\n', f);
}

/* ---- loads ---- */

int report_no_loads(const struct loads *l)
{
    return l->layers ? 0
                     : error(STATUS_USAGE,
                             "the log has no expert_load (moe-train writes it every --loads-every steps)");
}

int report_loads(FILE *f, const struct loads *l)
{
    char buf[32];
    if (report_no_loads(l) < 0)
        return -1;
    for (int i = 0; i < l->layers; i++)
        for (int e = 0; e < l->experts; e++)
            fprintf(f, "%s%c", value_text(l->sum[(size_t)i * (size_t)l->experts + (size_t)e], "0", buf),
                    e + 1 < l->experts ? ' ' : '\n');
    return 0;
}

void report_stages(const struct steplog *log, struct stage_memory *m)
{
    stage_memory_clear(m);
    for (int i = 0; i < log->segment_count; i++)
        for (int k = 0; log->segments[i].count && k < log->segments[i].memory.count; k++)
            stage_memory_add(m, k, log->segments[i].memory.bytes[k], log->segments[i].memory.rank[k]);
}

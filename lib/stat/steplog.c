/* SPDX-License-Identifier: MIT */
/* A resumed run repeats steps, and of a repeated step the last record counts, in the loads too. So the loads of
 * every step are kept apart until the end of a read, when they are added up. They stay, in front of the public
 * array of steps, for the next log of the same run. */
#include "stat/steplog.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/format.h"
#include "base/memory.h"
#include "base/num.h"

enum { MAX_DIM = 1 << 20 };

struct table {
    size_t room;
    double **loads; /* [room] of step i: [moe_layers][experts], or NULL */
    struct step_record steps[];
};

static struct table *table_of(const struct steplog *log)
{
    return log->steps ? (struct table *)((char *)log->steps - offsetof(struct table, steps)) : NULL;
}

static void grow(struct steplog *log)
{
    struct table *t = table_of(log);
    if (t && log->count < t->room)
        return;
    size_t room = t ? 2 * t->room : 64;
    double **loads = t ? t->loads : NULL;
    t = xrealloc(t, 1, sizeof *t + room * sizeof *t->steps);
    t->loads = xrealloc(loads, room, sizeof *t->loads);
    t->room = room;
    log->steps = t->steps;
}

/* ---- values of a record ---- */

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int64_t integer(const json_t *object, const char *key)
{
    double v = number(object, key);
    const json_t *exact = json_object_get(object, key);
    if (json_is_integer(exact))
        return json_integer_value(exact);
    return fabs(v) < 9e18 ? (int64_t)v : 0; /* false for NaN */
}

/* Text for a terminal: what would steer it becomes '?'. */
static void text(const json_t *object, const char *key, char *to, size_t size)
{
    const char *s = json_string_value(json_object_get(object, key));
    size_t n = 0;
    for (; s && s[n] && n + 1 < size; n++)
        to[n] = (unsigned char)s[n] < ' ' || s[n] == 0x7f ? '?' : s[n];
    while (s && n > 0 && s[n] && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--; /* not in the middle of a character */
    to[n] = '\0';
}

/* ---- records; each returns false when the line is none ---- */

/* The loads are matrices of one shape: those of another (of a run that was resumed with other experts) are
 * worthless. */
static void drop_loads(struct steplog *log)
{
    for (size_t i = 0; i < log->count; i++) {
        free(table_of(log)->loads[i]);
        table_of(log)->loads[i] = NULL;
    }
}

static bool read_start(struct steplog *log, const json_t *r)
{
    text(r, "model", log->model, sizeof log->model);
    text(r, "backend", log->backend, sizeof log->backend);
    text(r, "precision", log->precision, sizeof log->precision);
    log->world = (int)max64(0, min64(integer(r, "world"), INT32_MAX));
    log->layers = (int)max64(0, min64(integer(r, "layers"), MAX_DIM));
    int experts = (int)max64(0, min64(integer(r, "experts"), MAX_DIM));
    if (experts != log->experts)
        drop_loads(log);
    log->experts = experts;
    log->parameters = integer(r, "parameters");
    log->active_parameters = integer(r, "active_parameters");
    log->flops_per_token = number(r, "flops_per_token");
    log->peak_flops = number(r, "peak_flops");
    log->end_reason[0] = '\0';
    return true;
}

/* Where the step is, or belongs. */
static size_t place_of(const struct steplog *log, int64_t step)
{
    size_t low = 0, high = log->count;
    if (high && log->steps[high - 1].step < step)
        return high;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->steps[middle].step < step)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The matrix of a record, or NULL with *bad set when it is none. One of another shape than before (a run that
 * was resumed with other experts) makes those before worthless. */
static double *read_loads(struct steplog *log, const json_t *rows, bool *bad)
{
    size_t layers = json_array_size(rows), experts = json_array_size(json_array_get(rows, 0));
    *bad = false;
    if (!rows || json_is_null(rows))
        return NULL;
    *bad = true;
    if (layers < 1 || layers > MAX_DIM || experts < 1 || experts > MAX_DIM)
        return NULL;
    for (size_t l = 0; l < layers; l++)
        if (json_array_size(json_array_get(rows, l)) != experts)
            return NULL;
    double *loads = xcalloc(layers * experts, sizeof *loads);
    for (size_t i = 0; i < layers * experts; i++) {
        const json_t *v = json_array_get(json_array_get(rows, i / experts), i % experts);
        loads[i] = json_number_value(v);
        if (!json_is_number(v) || !(loads[i] >= 0)) {
            free(loads);
            return NULL;
        }
    }
    if (log->moe_layers != (int)layers || log->experts != (int)experts)
        drop_loads(log);
    log->moe_layers = (int)layers;
    log->experts = (int)experts;
    *bad = false;
    return loads;
}

static bool read_step(struct steplog *log, const json_t *r)
{
    const json_t *step = json_object_get(r, "step"), *load = json_object_get(r, "load");
    const json_t *phases = json_object_get(r, "phases");
    bool bad;
    if (!json_is_integer(step) || json_integer_value(step) < 0)
        return false;
    double *loads = read_loads(log, json_object_get(r, "expert_load"), &bad);
    if (bad)
        return false;
    struct step_record s = {
        .step = json_integer_value(step),
        .loss = number(r, "loss"),
        .grad_norm = number(r, "grad_norm"),
        .lr = number(r, "lr"),
        .time_s = number(r, "time_s"),
        .tokens = integer(r, "tokens"),
        .dropped = integer(r, "dropped"),
        .overflow = integer(r, "overflow"),
        .load_max_over_mean = number(load, "max_over_mean"),
        .load_std = number(load, "std"),
        .peak_bytes = number(r, "peak_bytes"),
    };
    for (int i = 0; i < ROUTER_LOSSES; i++)
        s.router_loss[i] = number(r, router_loss_style[i].key);
    for (int i = 0; i < PHASES; i++)
        s.phase_s[i] = number(json_object_get(phases, phase_name[i]), "mean");

    size_t at = place_of(log, s.step);
    if (at < log->count && log->steps[at].step == s.step) {
        free(table_of(log)->loads[at]);
    } else {
        grow(log);
        memmove(log->steps + at + 1, log->steps + at, (log->count - at) * sizeof *log->steps);
        memmove(table_of(log)->loads + at + 1, table_of(log)->loads + at, (log->count - at) * sizeof(double *));
        log->count++;
    }
    log->steps[at] = s;
    table_of(log)->loads[at] = loads;
    return true;
}

static bool read_eval(struct steplog *log, const json_t *r)
{
    const json_t *step = json_object_get(r, "step");
    double loss = number(r, "loss");
    if (!json_is_integer(step))
        return false;
    double at = (double)json_integer_value(step);
    size_t i = log->evals;
    while (i > 0 && log->eval_step[i - 1] >= at)
        i--;
    if (i == log->evals || log->eval_step[i] != at) {
        log->eval_step = xrealloc(log->eval_step, log->evals + 1, sizeof *log->eval_step);
        log->eval_loss = xrealloc(log->eval_loss, log->evals + 1, sizeof *log->eval_loss);
        memmove(log->eval_step + i + 1, log->eval_step + i, (log->evals - i) * sizeof *log->eval_step);
        memmove(log->eval_loss + i + 1, log->eval_loss + i, (log->evals - i) * sizeof *log->eval_loss);
        log->evals++;
    }
    log->eval_step[i] = at;
    log->eval_loss[i] = loss;
    return true;
}

static bool read_record(struct steplog *log, const json_t *r)
{
    const char *kind = json_string_value(json_object_get(r, "kind"));
    if (!kind)
        return false;
    if (strcmp(kind, "start") == 0)
        return read_start(log, r);
    if (strcmp(kind, "step") == 0)
        return read_step(log, r);
    if (strcmp(kind, "eval") == 0)
        return read_eval(log, r);
    if (strcmp(kind, "save") == 0)
        log->saves++;
    else if (strcmp(kind, "fault") == 0)
        log->faults++;
    else if (strcmp(kind, "end") == 0)
        text(r, "reason", log->end_reason, sizeof log->end_reason);
    return true; /* a later version may add kinds */
}

/* ---- the file ---- */

static void sum_loads(struct steplog *log)
{
    size_t n = (size_t)log->moe_layers * (size_t)log->experts;
    free(log->loads);
    log->loads = NULL;
    for (size_t i = 0; i < log->count; i++) {
        const double *of_step = table_of(log)->loads[i];
        if (!of_step)
            continue;
        if (!log->loads)
            log->loads = xcalloc(n, sizeof *log->loads);
        for (size_t k = 0; k < n; k++)
            log->loads[k] += of_step[k];
    }
}

/* A start record that this program may not read ends everything: what follows may mean something else. */
static int check_format(const json_t *r, const char *path, size_t line)
{
    const char *kind = json_string_value(json_object_get(r, "kind")), *key;
    char why[FORMAT_WHY];
    if (kind && strcmp(kind, "start") == 0 && format_refuses(&log_format, r, &key, why))
        return error(STATUS_USAGE, "%s:%zu:1: key '%s' %s", path, line, key, why);
    return 0;
}

static int read_lines(struct steplog *log, FILE *f, const char *path)
{
    char *line = NULL;
    size_t room = 0;
    int rc = 0;
    ssize_t n;
    for (size_t at = 1; rc == 0 && (n = getline(&line, &room, f)) > 0; at++) {
        if (strspn(line, " \t\r\n") == (size_t)n)
            continue;
        json_t *r = json_loadb(line, (size_t)n, 0, NULL);
        rc = check_format(r, path, at);
        if (rc == 0 && !read_record(log, r))
            log->skipped_lines++;
        json_decref(r);
    }
    free(line);
    return rc;
}

int steplog_read(struct steplog *log, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f)
        return error_errno("cannot open '%s'", path);
    if (!log->world && !log->count)
        log->flops_per_token = log->peak_flops = NAN;
    int r = read_lines(log, f, is_stdin ? "stdin" : path);
    if (ferror(f))
        r = error_errno("cannot read '%s'", path);
    if (!is_stdin)
        fclose(f);
    sum_loads(log);
    return r;
}

void steplog_release(struct steplog *log)
{
    struct table *t = table_of(log);
    if (t) {
        drop_loads(log);
        free(t->loads);
        free(t);
    }
    free(log->loads);
    free(log->eval_step);
    free(log->eval_loss);
    *log = (struct steplog){0};
}

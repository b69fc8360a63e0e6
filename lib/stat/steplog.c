/* SPDX-License-Identifier: MIT */
/* Which records count is known only when the last start record has been read. So all are kept as they come, and
 * what counts is picked anew at the end of each log. */
#include "stat/steplog.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"

enum { MAX_DIM = 1 << 20 };

struct step_read {
    struct step_record r;
    double *loads; /* [layers][experts], or NULL */
    int layers, experts;
};

/* An evaluation, or a checkpoint, whose loss means nothing. */
struct evaluation {
    int segment;
    double step, loss;
};

struct log_records {
    struct step_read *steps;
    struct evaluation *evals, *saves;
    size_t step_count, eval_count, save_count;
};

/* Room for one more behind `count` of them. */
static void *one_more(void *list, size_t count, size_t size)
{
    return (count & (count + 1)) == 0 ? xrealloc(list, 2 * count + 2, size) : list;
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

static struct log_segment *new_segment(struct steplog *log)
{
    log->segments = xrealloc(log->segments, (size_t)log->segment_count + 1, sizeof *log->segments);
    struct log_segment *s = &log->segments[log->segment_count++];
    *s = (struct log_segment){.from = -1, .flops_per_token = NAN, .peak_flops = NAN};
    return s;
}

/* The one that what is read now belongs to. */
static int current(struct steplog *log)
{
    if (!log->segment_count)
        new_segment(log);
    return log->segment_count - 1;
}

static bool read_start(struct steplog *log, const json_t *r)
{
    const json_t *from = json_object_get(r, "step");
    struct log_segment *s = new_segment(log);
    log->starts++;
    s->started = true;
    s->from = json_is_integer(from) ? max64(-1, json_integer_value(from)) : -1;
    s->world = log->world = (int)max64(0, min64(integer(r, "world"), INT32_MAX));
    s->experts = (int)max64(0, min64(integer(r, "experts"), MAX_DIM));
    s->flops_per_token = log->flops_per_token = number(r, "flops_per_token");
    s->peak_flops = log->peak_flops = number(r, "peak_flops");
    text(r, "run", s->run, sizeof s->run);
    text(r, "parent", s->parent, sizeof s->parent);
    text(r, "model", log->model, sizeof log->model);
    text(r, "backend", log->backend, sizeof log->backend);
    text(r, "precision", log->precision, sizeof log->precision);
    log->layers = (int)max64(0, min64(integer(r, "layers"), MAX_DIM));
    log->parameters = integer(r, "parameters");
    log->active_parameters = integer(r, "active_parameters");
    log->end_reason[0] = '\0';
    return true;
}

/* The matrix of a record; without one nothing changes. False when it is there and none. */
static bool read_loads(struct step_read *to, const json_t *rows)
{
    size_t layers = json_array_size(rows), experts = json_array_size(json_array_get(rows, 0));
    if (!rows || json_is_null(rows))
        return true;
    if (layers < 1 || layers > MAX_DIM || experts < 1 || experts > MAX_DIM)
        return false;
    for (size_t l = 0; l < layers; l++)
        if (json_array_size(json_array_get(rows, l)) != experts)
            return false;
    double *loads = xcalloc(layers * experts, sizeof *loads);
    for (size_t i = 0; i < layers * experts; i++) {
        const json_t *v = json_array_get(json_array_get(rows, i / experts), i % experts);
        loads[i] = json_number_value(v);
        if (!json_is_number(v) || !(loads[i] >= 0)) {
            free(loads);
            return false;
        }
    }
    to->loads = loads;
    to->layers = (int)layers;
    to->experts = (int)experts;
    return true;
}

static bool read_step(struct steplog *log, const json_t *r)
{
    const json_t *step = json_object_get(r, "step"), *load = json_object_get(r, "load");
    const json_t *phases = json_object_get(r, "phases");
    struct log_records *all = log->all;
    struct step_read s = {0};
    if (!json_is_integer(step) || json_integer_value(step) < 0 ||
        !read_loads(&s, json_object_get(r, "expert_load")))
        return false;
    s.r = (struct step_record){
        .step = json_integer_value(step),
        .segment = current(log),
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
        s.r.router_loss[i] = number(r, router_loss_style[i].key);
    for (int i = 0; i < PHASES; i++)
        s.r.phase_s[i] = number(json_object_get(phases, phase_name[i]), "mean");
    all->steps = one_more(all->steps, all->step_count, sizeof *all->steps);
    all->steps[all->step_count++] = s;
    return true;
}

static bool read_eval(struct steplog *log, const json_t *r)
{
    const json_t *step = json_object_get(r, "step");
    struct log_records *all = log->all;
    if (!json_is_integer(step))
        return false;
    all->evals = one_more(all->evals, all->eval_count, sizeof *all->evals);
    all->evals[all->eval_count++] =
        (struct evaluation){current(log), (double)json_integer_value(step), number(r, "loss")};
    return true;
}

static void read_save(struct steplog *log, const json_t *r)
{
    struct log_records *all = log->all;
    all->saves = one_more(all->saves, all->save_count, sizeof *all->saves);
    all->saves[all->save_count++] = (struct evaluation){current(log), number(r, "step"), 0};
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
        read_save(log, r);
    else if (strcmp(kind, "fault") == 0)
        log->faults++;
    else if (strcmp(kind, "end") == 0)
        text(r, "reason", log->end_reason, sizeof log->end_reason);
    return true; /* a later version may add kinds */
}

/* ---- what counts ---- */

/* The segment that this one goes on from, or -1. A run that was started again under its own name goes on from
 * itself. */
static int parent_of(const struct steplog *log, int segment)
{
    const struct log_segment *s = &log->segments[segment];
    const char *names[] = {s->run, s->parent};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (int i = segment - 1; *names[k] && i >= 0; i--)
            if (strcmp(log->segments[i].run, names[k]) == 0)
                return i;
    return segment - 1;
}

static void trace_line(struct steplog *log)
{
    int64_t up_to = INT64_MAX;
    for (int i = 0; i < log->segment_count; i++) {
        log->segments[i].up_to = INT64_MIN;
        log->segments[i].count = 0;
    }
    for (int i = log->segment_count - 1; i >= 0; i = parent_of(log, i)) {
        log->segments[i].up_to = up_to;
        if (log->segments[i].from >= 0)
            up_to = min64(up_to, log->segments[i].from);
    }
}

static bool counts(const struct steplog *log, const struct evaluation *e)
{
    int64_t up_to = log->segments[e->segment].up_to;
    return up_to != INT64_MIN && !(e->step > (double)up_to);
}

static int by_step(const void *a, const void *b)
{
    const struct step_read *x = *(const struct step_read *const *)a, *y = *(const struct step_read *const *)b;
    if (x->r.step != y->r.step)
        return x->r.step < y->r.step ? -1 : 1;
    return x < y ? -1 : x > y; /* in the order of the log */
}

/* Loads are matrices of one shape. Those of another than the last (of a run resumed with other experts) are
 * worthless. */
static void sum_loads(struct steplog *log, const struct step_read *const *list, size_t count)
{
    const struct step_read *last = NULL;
    free(log->loads);
    log->loads = NULL;
    for (size_t i = 0; i < count; i++)
        if (list[i]->loads)
            last = list[i];
    log->experts = log->segment_count ? log->segments[log->segment_count - 1].experts : 0;
    if (!last || (log->experts && last->experts != log->experts))
        return;
    log->experts = last->experts;
    log->moe_layers = last->layers;
    log->loads = xcalloc((size_t)last->layers * (size_t)last->experts, sizeof *log->loads);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; list[i]->loads && list[i]->layers == last->layers &&
                           list[i]->experts == last->experts && k < (size_t)last->layers * last->experts;
             k++)
            log->loads[k] += list[i]->loads[k];
}

static void pick_steps(struct steplog *log)
{
    const struct log_records *all = log->all;
    const struct step_read **list = xmalloc((all->step_count + 1) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < all->step_count; i++)
        if (all->steps[i].r.step <= log->segments[all->steps[i].r.segment].up_to)
            list[n++] = &all->steps[i];
    qsort(list, n, sizeof *list, by_step);
    log->count = 0;
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || list[i + 1]->r.step != list[i]->r.step)
            list[log->count++] = list[i];
    log->abandoned = all->step_count - log->count;
    log->steps = xrealloc(log->steps, log->count + 1, sizeof *log->steps);
    for (size_t i = 0; i < log->count; i++) {
        log->steps[i] = list[i]->r;
        log->segments[list[i]->r.segment].count++;
    }
    sum_loads(log, list, log->count);
    free(list);
}

static int event_order(const void *a, const void *b)
{
    const struct evaluation *x = *(const struct evaluation *const *)a,
                            *y = *(const struct evaluation *const *)b;
    if (x->step != y->step)
        return x->step < y->step ? -1 : 1;
    return x < y ? -1 : x > y;
}

static void pick_events(struct steplog *log)
{
    const struct log_records *all = log->all;
    const struct evaluation **list = xmalloc((all->eval_count + 1) * sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < all->eval_count; i++)
        if (counts(log, &all->evals[i]))
            list[n++] = &all->evals[i];
    qsort(list, n, sizeof *list, event_order);
    log->eval_step = xrealloc(log->eval_step, n + 1, sizeof *log->eval_step);
    log->eval_loss = xrealloc(log->eval_loss, n + 1, sizeof *log->eval_loss);
    log->evals = log->saves = 0;
    for (size_t i = 0; i < n; i++)
        if (i + 1 == n || list[i + 1]->step != list[i]->step) {
            log->eval_step[log->evals] = list[i]->step;
            log->eval_loss[log->evals++] = list[i]->loss;
        }
    for (size_t i = 0; i < all->save_count; i++)
        log->saves += counts(log, &all->saves[i]);
    free(list);
}

/* ---- the file ---- */

/* A line that is not UTF-8 (of a writer that did not care) has its bad bytes replaced. */
static json_t *load(const char *line, size_t bytes)
{
    json_t *r = json_loadb(line, bytes, 0, NULL);
    if (r || strlen(line) != bytes || utf8_valid(line))
        return r;
    char *good = utf8_repair(line, bytes, &bytes);
    r = json_loadb(good, bytes, 0, NULL);
    free(good);
    return r;
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
        json_t *r = load(line, (size_t)n);
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
    if (!log->all) {
        log->all = xcalloc(1, sizeof *log->all);
        log->flops_per_token = log->peak_flops = NAN;
    }
    int r = read_lines(log, f, is_stdin ? "stdin" : path);
    if (ferror(f))
        r = error_errno("cannot read '%s'", path);
    if (!is_stdin)
        fclose(f);
    trace_line(log);
    pick_steps(log);
    pick_events(log);
    return r;
}

void steplog_release(struct steplog *log)
{
    for (size_t i = 0; log->all && i < log->all->step_count; i++)
        free(log->all->steps[i].loads);
    if (log->all) {
        free(log->all->steps);
        free(log->all->evals);
        free(log->all->saves);
    }
    free(log->all);
    free(log->steps);
    free(log->segments);
    free(log->loads);
    free(log->eval_step);
    free(log->eval_loss);
    *log = (struct steplog){0};
}

/* SPDX-License-Identifier: MIT */
#include "stat/records.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/format.h"
#include "base/json.h"
#include "base/num.h"

enum { MAX_DIM = 1 << 20 };

json_t *record_load(const char *text, size_t bytes)
{
    json_t *r = json_loadb(text, bytes, 0, NULL);
    if (r || memchr(text, '\0', bytes))
        return r;
    char *good = utf8_repair(text, bytes, &bytes);
    r = json_loadb(good, bytes, 0, NULL);
    free(good);
    return r;
}

enum record_kind record_kind(const json_t *r)
{
    static const char *const name[] = {[RECORD_START] = "start",
                                       [RECORD_EVAL] = "eval",
                                       [RECORD_SAVE] = "save",
                                       [RECORD_FAULT] = "fault",
                                       [RECORD_END] = "end"};
    const char *kind = json_string_value(json_object_get(r, "kind"));
    const json_t *step = json_object_get(r, "step");
    if (!kind)
        return RECORD_NONE;
    for (size_t k = RECORD_START; k < sizeof name / sizeof *name; k++)
        if (strcmp(kind, name[k]) == 0)
            return k == RECORD_EVAL && !json_is_integer(step) ? RECORD_NONE : (enum record_kind)k;
    return RECORD_UNKNOWN;
}

/* ---- values ---- */

static double number(const json_t *object, const char *key)
{
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static int64_t integer(const json_t *object, const char *key, int64_t most)
{
    double v = number(object, key);
    const json_t *exact = json_object_get(object, key);
    int64_t n = json_is_integer(exact) ? json_integer_value(exact) : fabs(v) < 9e18 ? (int64_t)v : 0;
    return max64(0, min64(n, most)); /* 0 for NaN */
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

/* ---- records ---- */

/* What a start record says of the ranks, their work and their device. */
static void read_job(struct log_segment *s, const json_t *r)
{
    const json_t *axes = json_object_get(r, "axes");
    s->world = (int)integer(r, "world", INT32_MAX);
    s->hosts = (int)integer(r, "hosts", INT32_MAX);
    s->experts = (int)integer(r, "experts", MAX_DIM);
    s->top_k = (int)integer(r, "top_k", MAX_DIM);
    s->seq = integer(r, "seq", INT32_MAX);
    s->micro_batch = integer(r, "micro_batch", INT32_MAX);
    s->global_batch = integer(r, "global_batch", INT32_MAX);
    s->dp = integer(axes, "dp", INT32_MAX);
    s->pp = integer(axes, "pp", INT32_MAX);
    s->vpp = integer(axes, "vpp", INT32_MAX);
    s->flops_per_token = number(r, "flops_per_token");
    s->peak_flops = number(r, "peak_flops");
    s->device_bytes = number(r, "device_bytes");
    s->predicted_bytes = number(r, "predicted_bytes");
    text(r, "schedule", s->schedule, sizeof s->schedule);
    text(r, "recompute", s->recompute, sizeof s->recompute);
    text(r, "plan", s->plan, sizeof s->plan);
    text(r, "run", s->run, sizeof s->run);
    text(r, "parent", s->parent, sizeof s->parent);
}

static int read_start(struct steplog *log, const json_t *r, const char *path, size_t line)
{
    const char *key;
    char why[FORMAT_WHY];
    if (format_refuses(&log_format, r, &key, why))
        return error(STATUS_USAGE, "%s:%zu:1: key '%s' %s", path, line, key, why);
    const json_t *from = json_object_get(r, "step");
    struct log_segment *s = steplog_begin(log);
    s->started = true;
    s->from = json_is_integer(from) ? max64(-1, json_integer_value(from)) : -1;
    read_job(s, r);
    log->starts++;
    log->world = s->world;
    log->experts = s->experts;
    log->top_k = s->top_k;
    log->flops_per_token = s->flops_per_token;
    log->peak_flops = s->peak_flops;
    log->layers = (int)integer(r, "layers", MAX_DIM);
    log->parameters = integer(r, "parameters", INT64_MAX);
    log->active_parameters = integer(r, "active_parameters", INT64_MAX);
    text(r, "model", log->model, sizeof log->model);
    text(r, "backend", log->backend, sizeof log->backend);
    text(r, "precision", log->precision, sizeof log->precision);
    log->end_reason[0] = '\0';
    return 0;
}

int record_apply(struct steplog *log, const json_t *r, const char *path, size_t line)
{
    struct log_event e = {number(r, "step"), NAN, number(r, "time_s"), number(r, "bytes"), 0, 0};
    switch (record_kind(r)) {
    case RECORD_START:
        return read_start(log, r, path, line);
    case RECORD_EVAL:
        e.loss = number(r, "loss");
        steplog_add_eval(log, &e);
        return 0;
    case RECORD_SAVE:
        steplog_add_save(log, &e);
        return 0;
    case RECORD_FAULT:
        log->faults++;
        return 0;
    case RECORD_END:
        text(r, "reason", log->end_reason, sizeof log->end_reason);
        return 0;
    default:
        return 0;
    }
}

/* SPDX-License-Identifier: MIT */
/* Step logs, one and the same twice over. What is read is in order, can be summed up and reported; and a line
 * that jansson takes for a step is one, with the same numbers. */
#include "stat/steplog.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "stat/report.h"
#include "stat/summary.h"

static void in_order(struct steplog *log)
{
    size_t counted = 0;
    int64_t before = -1;
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        MUST(before < r->step);
        MUST(r->step <= steplog_segment(log, r)->up_to);
        before = r->step;
    }
    for (int i = 0; i < log->segment_count; i++)
        counted += log->segments[i].count;
    MUST(counted == log->count);
    for (size_t i = 1; i < log->evals; i++) {
        double last = steplog_eval(log, i - 1)->step;
        MUST(last < steplog_eval(log, i)->step);
    }
}

static void look_at(struct steplog *log, FILE *nowhere)
{
    struct report r = {.log = log};
    struct loads l;
    double sum = 0;
    in_order(log);
    MUST(loads_read(&l, log, 1) == 0);
    for (size_t i = 0; l.layers && i < (size_t)l.layers * (size_t)l.experts; i++)
        sum += l.sum[i];
    MUST(!(sum < 0));
    r.loads = &l;
    if (summary_make(&r.s, log, &l, 0, NULL) == 0) {
        report_text(nowhere, &r);
        report_json(nowhere, &r);
        report_csv(nowhere, &r);
        report_markdown(nowhere, &r);
        report_prom(nowhere, &r);
        report_experts(nowhere, &l);
        summary_make(&r.s, log, &l, 1, NULL);
        summary_make(&r.s, log, &l, SKIP_WARMUP, NULL);
    }
    loads_release(&l);
}

/* ---- against jansson ---- */

static bool same(double x, const json_t *v)
{
    return json_is_number(v) ? x == json_number_value(v) : isnan(x);
}

static void compare_line(const char *line, size_t bytes)
{
    struct step_record r;
    struct stage_memory memory;
    bool garbage = false;
    const char *begin;
    json_t *j = json_loadb(line, bytes, JSON_REJECT_DUPLICATES, NULL);
    const char *kind = json_string_value(json_object_get(j, "kind"));
    const json_t *step = json_object_get(j, "step");
    char *copy = calloc(1, bytes + 1 + SCAN_PADDING);
    const char *p = memcpy(copy, line, bytes);
    copy[bytes] = '\n';
    stage_memory_clear(&memory);
    enum scan_kind got = scan_record(&p, copy + bytes, &begin, &r, &memory, &garbage);
    MUST(p >= copy && p <= copy + bytes);
    /* Keys and kinds written with escapes are none that we know, and deep trees are refused. */
    bool plain = !memchr(line, '\\', bytes) && json_object_size(j) > 0 && !memchr(line, '\0', bytes);
    if (kind && plain && strcmp(kind, "step") == 0 && json_is_integer(step) && json_integer_value(step) >= 0 &&
        got == SCAN_STEP) {
        MUST(r.step == json_integer_value(step));
        MUST(same(r.loss, json_object_get(j, "loss")));
        MUST(same(r.time_s, json_object_get(j, "time_s")));
        MUST(same(r.phase_s[0],
                  json_object_get(json_object_get(json_object_get(j, "phases"), "forward"), "mean")));
    }
    free(copy);
    json_decref(j);
}

static void compare_lines(const char *p, size_t bytes)
{
    for (const char *end; bytes > 0; bytes -= (size_t)(end - p) + (end < p + bytes), p = end + 1) {
        end = memchr(p, '\n', bytes);
        end = end ? end : p + bytes;
        compare_line(p, (size_t)(end - p));
        if ((size_t)(end - p) >= bytes)
            break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FILE *nowhere;
    struct steplog log;
    char *path = (char *)memory_file(data, size);
    if (!nowhere)
        nowhere = fopen("/dev/null", "w");
    steplog_init(&log);
    if (steplog_read(&log, (char *[]){path, path}, 2, 1) == 0)
        look_at(&log, nowhere);
    steplog_release(&log);
    compare_lines((const char *)data, size);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* Step logs, one and the same twice over. What is read is in order, and can be summed up. */
#include "stat/steplog.h"
#include "fuzz/fuzz.h"
#include "stat/summary.h"

static void look_at(const struct steplog *log)
{
    struct summary s;
    struct segment_speed speed;
    double sum = 0;
    size_t counted = 0;
    for (size_t i = 1; i < log->count; i++)
        MUST(log->steps[i - 1].step < log->steps[i].step);
    for (size_t i = 0; i < log->count; i++)
        MUST(log->steps[i].step <= log->segments[log->steps[i].segment].up_to);
    for (int i = 0; i < log->segment_count; i++)
        counted += log->segments[i].count;
    MUST(counted == log->count);
    for (size_t i = 1; i < log->evals; i++)
        MUST(log->eval_step[i - 1] < log->eval_step[i]);
    for (size_t i = 0; log->loads && i < (size_t)log->moe_layers * (size_t)log->experts; i++)
        sum += log->loads[i];
    MUST(!(sum < 0));
    if (summary_make(&s, log, 0) == 0)
        summary_make(&s, log, 1);
    for (int i = 0; i < log->segment_count; i++)
        summary_segment(&speed, log, 0, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct steplog log = {0};
    const char *path = memory_file(data, size);
    for (int i = 0; i < 2; i++) {
        MUST(steplog_read(&log, path) == 0);
        look_at(&log);
    }
    steplog_release(&log);
    return 0;
}

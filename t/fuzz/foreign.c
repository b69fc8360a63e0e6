/* SPDX-License-Identifier: MIT */
/* Other trainers' logs, read by every trainer's reader whoever wrote them. What is read is in order, and can be
 * summed up. */
#include "stat/foreign.h"
#include "base/memory.h"
#include "fuzz/fuzz.h"
#include "stat/summary.h"

static void read_as(const char *path, const struct trainer *t)
{
    struct steplog log;
    struct summary s;
    steplog_init(&log);
    log.sources = xcalloc(1, sizeof *log.sources);
    MUST(log_source_open(&log.sources[0], path) == 0);
    log.source_count = 1;
    MUST(foreign_read(&log, 0, t) == 0 && steplog_settle(&log) == 0);
    for (size_t i = 0; i < log.count; i++) {
        struct step_record r = *steplog_step(&log, i);
        MUST(r.step >= 0 && r.tokens >= 0 && r.segment < log.segment_count);
        MUST(r.step <= log.segments[r.segment].up_to);
        MUST(i == 0 || steplog_step(&log, i - 1)->step < r.step);
    }
    if (summary_make(&s, &log, NULL, 0, NULL) == 0)
        MUST(s.steps == (double)log.count);
    steplog_release(&log);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = memory_file(data, size);
    struct log_source s;
    MUST(log_source_open(&s, path) == 0);
    foreign_detect(&s);
    log_source_close(&s);
    read_as(path, &trainer_megatron);
    read_as(path, &trainer_deepspeed);
    read_as(path, &trainer_torchtitan);
    return 0;
}

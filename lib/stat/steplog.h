/* SPDX-License-Identifier: MIT */
/* The step log: JSON Lines, one object a line, each with "kind": start step eval save fault end. moe-train
 * writes it, moe-stat reads it, moe-steplog(5) gives the keys. Numbers read back bitwise. What does not parse
 * is counted, not fatal; kinds and keys that are not known are passed over; a start record for a newer moekit
 * (base/format.h) ends the reading.
 *
 * A start record begins a segment. The last segment and those that it goes on from are the line that counts:
 * of each its steps up to that from which the next one resumed. What else there is was abandoned. So of
 *
 *   start step=0, steps 1 to 10, start step=4, steps 5 and 6
 *
 * steps 1 to 4 of the first segment and 5 and 6 of the second are the run; 5 to 10 of the first are abandoned.
 * A segment goes on from the one before it, unless it names its parent's run and that one is further up.
 *
 * Memory does not grow with the length of a log, but for segments: steps wait in spools (stat/spool.h). Logs
 * are read by several threads; what comes of it depends on neither their number nor their order. */
#ifndef STAT_STEPLOG_H
#define STAT_STEPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "stat/scan.h"
#include "stat/source.h"
#include "stat/spool.h"

/* What ran from one start record to the next, and before the first. 0, NaN or "" where absent. */
struct log_segment {
    bool started;  /* has a start record */
    int64_t from;  /* the step it resumed from; -1: unknown */
    int64_t up_to; /* its last step that can count; INT64_MIN: it is not of the line */
    size_t count;  /* how many steps of it count */
    int world, experts, top_k, hosts;
    int64_t seq, micro_batch, global_batch, dp, pp, vpp;
    double flops_per_token, peak_flops, device_bytes, predicted_bytes;
    char run[64], parent[64], schedule[16], recompute[16], plan[16];
    struct stage_memory memory; /* of all its steps */
};

/* An evaluation, or a checkpoint, whose loss is NaN. */
struct log_event {
    double step, loss, time_s, bytes;
    size_t order; /* in which they were read */
    int32_t segment;
};

/* A step that took longer is a clock that was set: it has no time. */
#define MAX_STEP_S 1e6

struct steplog {
    size_t count;     /* steps that count: steplog_step() has them, ascending and unique */
    size_t evals;     /* the same of evaluations, steplog_eval() */
    size_t saves;     /* and of checkpoints, steplog_save() */
    size_t abandoned; /* step records that do not count: of an abandoned branch, or of a step repeated later */
    double abandoned_s;           /* their seconds */
    struct log_segment *segments; /* in the order of the log */
    int segment_count;
    size_t skipped_lines; /* lines with something that is no record */
    size_t starts, faults;
    bool cut; /* the last line of a log has no end: its writer was killed, or is at it */
    /* from the last start record; 0 or NaN or "" where absent */
    int world, layers, experts, top_k;
    double flops_per_token, peak_flops;
    int64_t parameters, active_parameters;
    char model[128], backend[16], precision[16];
    char end_reason[128];
    /* Where another trainer's log does not tell, from a plan, set before it is read; 0: not known. */
    struct log_hint {
        int64_t seq, global_batch;
        int world;
    } hint;
    const char *kind; /* who wrote it: "moekit", or another trainer's name */

    struct spool step_spool, eval_spool, save_spool; /* once settled, what counts; see above */
    struct spool_window step_window, eval_window, save_window;
    struct log_source *sources; /* the logs, open: step_record.log is one of them */
    int source_count;
};

void steplog_init(struct steplog *log);
void steplog_release(struct steplog *log);
/* Reads logs (`-`: stdin) of one run, in order, once. 0, or -1 (cannot open or read, or for a newer moekit; no
 * step record at all is not an error). Uses so many threads; 0: one a processor. */
int steplog_read(struct steplog *log, char *const *paths, int count, int threads);

/* Step i of those that count; the record is good until the next call. Not for several threads at a time. */
const struct step_record *steplog_step(struct steplog *log, size_t i);
const struct log_event *steplog_eval(struct steplog *log, size_t i);
const struct log_event *steplog_save(struct steplog *log, size_t i);
/* 0, or -1 with error() set: what came of one of these calls is not to be trusted. To be asked at the end. */
int steplog_error(const struct steplog *log);
/* The segment that a step belongs to. */
static inline const struct log_segment *steplog_segment(const struct steplog *log, const struct step_record *r)
{
    return &log->segments[r->segment];
}

/* ---- for those who read logs into it ---- */

/* What is added next belongs to this new segment: everything in it is unknown. */
struct log_segment *steplog_begin(struct steplog *log);
/* In the order of the log; segment is filled in. */
void steplog_add_step(struct steplog *log, const struct step_record *r);
void steplog_add_eval(struct steplog *log, const struct log_event *e);
void steplog_add_save(struct steplog *log, const struct log_event *e);
/* Lines that came another way (stat/follow.h), with padding as stat/source.h has it. -1: for a newer moekit. */
int steplog_feed(struct steplog *log, const char *path, struct log_lines *l);
/* Once all is added: finds what counts. 0, or -1 with error() set. */
int steplog_settle(struct steplog *log);

#endif

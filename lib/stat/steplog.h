/* SPDX-License-Identifier: MIT */
/* The step log: JSON Lines, one object a line, each with "kind": start step eval save fault end. moe-train
 * writes it, moe-stat reads it, moe-steplog(5) gives the keys. Numbers read back bitwise. A line that does not
 * parse is counted, not fatal; kinds and keys that are not known are passed over; a start record for a newer
 * moekit (base/format.h) ends the reading.
 *
 * A start record begins a segment. The last segment and those that it goes on from are the line that counts:
 * of each its steps up to that from which the next one resumed. What else there is was abandoned. So of
 *
 *   start step=0, steps 1 to 10, start step=4, steps 5 and 6
 *
 * steps 1 to 4 of the first segment and 5 and 6 of the second are the run; 5 to 10 of the first are abandoned.
 * A segment goes on from the one before it, unless it names its parent's run and that one is further up. */
#ifndef STAT_STEPLOG_H
#define STAT_STEPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/losses.h"
#include "base/phases.h"

struct step_record {
    int64_t step;
    int segment;                                                    /* that wrote it */
    double loss, router_loss[ROUTER_LOSSES], grad_norm, lr, time_s; /* NaN where absent */
    int64_t tokens, dropped, overflow;
    double phase_s[PHASES]; /* means; NaN where absent */
    double load_max_over_mean, load_std;
    double peak_bytes;
};

/* What ran from one start record to the next, and before the first. 0, NaN or "" where absent. */
struct log_segment {
    bool started;  /* has a start record */
    int64_t from;  /* the step it resumed from; -1: unknown */
    int64_t up_to; /* its last step that can count; INT64_MIN: it is not of the line */
    size_t count;  /* how many steps of it count */
    int world, experts;
    double flops_per_token, peak_flops;
    char run[64], parent[64];
};

struct steplog {
    struct step_record *steps; /* those that count: ascending, unique */
    size_t count;
    size_t abandoned; /* step records that do not count: of an abandoned branch, or of a step repeated later */
    struct log_segment *segments; /* in the order of the log */
    int segment_count;
    size_t skipped_lines, starts, faults, evals, saves; /* evals and saves: those that count */
    /* from the last start record; 0 or NaN or "" where absent */
    int world, layers, experts, moe_layers;
    double flops_per_token, peak_flops;
    int64_t parameters, active_parameters;
    char model[128], backend[16], precision[16];
    double *loads;                 /* [moe_layers][experts] summed over the steps that count, or NULL */
    double *eval_step, *eval_loss; /* [evals] ascending, unique */
    char end_reason[128];
    struct log_records *all; /* everything that was read, for the next log of the same run */
};

/* Reads a log (`-`: stdin). Several logs of one run may be read into one steplog, in order. 0, or -1 (cannot
 * open, or for a newer moekit; no step record at all is not an error). */
int steplog_read(struct steplog *log, const char *path);
void steplog_release(struct steplog *log);

#endif

/* SPDX-License-Identifier: MIT */
/* The step log: JSON Lines, one object a line, each with "kind": start step eval save fault end. moe-train
 * writes it, moe-stat reads it, moe-steplog(5) gives the keys. Numbers read back bitwise. A line that does not
 * parse is counted, not fatal; kinds and keys that are not known are passed over; a start record for a newer
 * moekit (base/format.h) ends the reading. Of a repeated step the last record counts. */
#ifndef STAT_STEPLOG_H
#define STAT_STEPLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/losses.h"
#include "base/phases.h"

struct step_record {
    int64_t step;
    double loss, router_loss[ROUTER_LOSSES], grad_norm, lr, time_s; /* NaN where absent */
    int64_t tokens, dropped, overflow;
    double phase_s[PHASES]; /* means; NaN where absent */
    double load_max_over_mean, load_std;
    double peak_bytes;
};

struct steplog {
    struct step_record *steps; /* ascending, unique */
    size_t count;
    size_t skipped_lines, faults, evals, saves;
    /* from the last start record; 0 or NaN or "" where absent */
    int world, layers, experts, moe_layers;
    double flops_per_token, peak_flops;
    int64_t parameters, active_parameters;
    char model[128], backend[16], precision[16];
    double *loads;                 /* [moe_layers][experts] summed over the log, or NULL */
    double *eval_step, *eval_loss; /* [evals] */
    char end_reason[128];
};

/* Reads a log (`-`: stdin). Several logs of one run may be read into one steplog, in order. 0, or -1 (cannot
 * open, or for a newer moekit; no step record at all is not an error). */
int steplog_read(struct steplog *log, const char *path);
void steplog_release(struct steplog *log);

#endif

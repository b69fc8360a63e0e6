/* SPDX-License-Identifier: MIT */
/* The figures of a run, each under the one name that it has in every output and in --check. */
#ifndef STAT_SUMMARY_H
#define STAT_SUMMARY_H

#include <stddef.h>

#include "stat/steplog.h"

/* NaN where the log does not tell. Throughput, step time, utilisation and phases are over the steps counted;
 * the rest is over the whole log. Nothing is of steps that were abandoned (stat/steplog.h). What depends on the
 * ranks and their device (mfu) is computed of each segment with its own. */
struct summary {
    double steps, first_step, last_step, steps_counted, tokens, time_s;
    double tokens_per_s, tokens_per_s_p50, tokens_per_s_p95, tokens_per_s_p99;
    double step_s, step_s_p50, step_s_p95, mfu, hfu;
    double loss_first, loss_last, eval_loss, router_loss[ROUTER_LOSSES], grad_norm;
    double phase_share[PHASES];
    double expert_load_std, expert_load_max_over_mean, step_load_std, step_load_max_over_mean;
    double dropped, overflow, peak_bytes, evals, saves, faults, restarts, abandoned_steps, skipped_lines;
};

enum unit { UNIT_COUNT, UNIT_SECONDS, UNIT_RATE, UNIT_RATIO, UNIT_BYTES, UNIT_NUMBER };

struct figure {
    const char *name, *meaning;
    enum unit unit;
    size_t at; /* offset of a double in struct summary */
};
extern const struct figure summary_figure[];
extern const int summary_figures;

double figure_value(const struct summary *s, const struct figure *f);
const struct figure *figure_find(const char *name, size_t length); /* NULL: no such figure */

/* The first `skip` steps do not count for throughput. -1 with error() set when the log has no step, or none is
 * left. */
int summary_make(struct summary *s, const struct steplog *log, int64_t skip);

/* A segment's own part of what counts for throughput. NaN where unknown. */
struct segment_speed {
    double steps, tokens_per_s, mfu;
};
void summary_segment(struct segment_speed *s, const struct steplog *log, int64_t skip, int segment);

/* What a step's rate is computed from: false for a step without tokens or time. */
bool step_rate(const struct step_record *r, double *rate);

#endif

/* SPDX-License-Identifier: MIT */
/* The measured figures of a run; base/figures.h is their table and says what each is. */
#ifndef STAT_SUMMARY_H
#define STAT_SUMMARY_H

#include <stddef.h>

#include "base/figures.h"
#include "model/model.h"
#include "stat/loads.h"
#include "stat/steplog.h"

/* Each figure as a member (s->mfu) and by its id (s->value[FIGURE_mfu]). NaN where the log does not tell, and
 * those that are only predicted. Throughput, step time, utilisation and phases are over the steps counted; the
 * rest is over the whole log. Nothing is of steps that were abandoned (stat/steplog.h). What depends on the
 * ranks and their device (mfu) is computed of each segment with its own. */
/* clang-format off */
struct summary {
    union {
        struct {
#define X(id, ...) double id;
            FIGURE_ROWS
#undef X
        };
        double value[FIGURES];
    };
};
/* clang-format on */

/* NaN unless finite. */
double figure_value(const struct summary *s, const struct figure *f);

/* What the log does not tell, from elsewhere (a plan): used where the log has none. NaN: not known there. */
struct known_figures {
    double flops_per_token, peak_flops, device_bytes;
};

/* Gives the segments that know the length of a sequence, or have a hint of it, this model's FLOPs a token where
 * they have none. */
void summary_count_flops(struct steplog *log, const struct model *m);

enum { SKIP_WARMUP = -1 };

/* The first `skip` steps do not count for throughput; SKIP_WARMUP: warmup_steps of them. `loads` may be NULL:
 * then figures of loads summed over the log are unknown. `known` may be NULL. -1 with error() set when the log
 * has no step, or none is left. */
int summary_make(struct summary *s, struct steplog *log, const struct loads *loads, int64_t skip,
                 const struct known_figures *known);
/* How many steps that skips. */
int64_t summary_skipped(const struct summary *s, int64_t skip);
/* Whether a figure needs `loads`. */
bool figure_needs_loads(const struct figure *f);

/* A segment's own part of what counts for throughput. NaN where unknown. */
struct segment_figures {
    double steps, tokens_per_s, mfu;
    double first_loss, last_loss; /* of its steps that count, skipped or not */
};
/* Of all segments, [segment_count], for the caller to free; `skip` as summary_skipped() has it. */
struct segment_figures *summary_segments(struct steplog *log, int64_t skip);

/* What a step's rate is computed from: false for a step without tokens or time. */
bool step_rate(const struct step_record *r, double *rate);

/* What a phase's mean over ranks lies between, as a share of step time: where a log tells only of the fastest
 * and the slowest rank. NaN: it tells nothing, or the mean itself is a figure. */
struct phase_bounds {
    double least_share, most_share;
};
void summary_bounds(struct phase_bounds to[static PHASES], const struct summary *s, struct steplog *log,
                    int64_t skip);

/* The rank that was the slowest in a phase most often. */
struct straggler {
    int rank;            /* -1: the log has no ranks */
    double times, steps; /* it was the slowest so often, of so many steps that tell */
    double excess_share; /* in all steps: the slowest's time above the mean, as a share of step time */
    double excess;       /* over the mean of the phase */
};
/* Of each phase, over the steps counted. A rank that is the slowest in less than one step of STRAGGLER_RANKS
 * may be missed. */
enum { STRAGGLER_RANKS = 64 };
void summary_stragglers(struct straggler to[static PHASES], struct steplog *log, int64_t skip);

#endif

/* SPDX-License-Identifier: MIT */
/* One line of a step log, read as it streams by: step records field by field, without a tree of them, because
 * nearly all of a log is they. Numbers read back bitwise. A key that is not known is passed over, and so are
 * the experts' loads: only where they are is noted (stat/loads.h reads them). What is passed over is only
 * looked at for quotes and brackets. Records of other kinds are few, and are left to jansson.
 *
 * Beside JSON, NaN, Infinity and -Infinity are numbers, as Python writes them. */
#ifndef STAT_SCAN_H
#define STAT_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/losses.h"
#include "base/phases.h"

/* Communications that have times of their own: ep tp pp dp. */
enum comm_time { COMM_EP, COMM_TP, COMM_PP, COMM_DP, COMM_TIMES };
extern const char *const comm_time_name[COMM_TIMES];

enum {
    STAGES = 64,       /* pipeline stages whose memory is told apart; further ones are the last of these */
    SCAN_PADDING = 64, /* readable bytes that must follow a line */
    MAX_LINE_BYTES = 16 << 20, /* of a longer line nothing is read */
};

/* A step, as its record says: NaN where that does not tell. Its strings and matrices are not here. */
struct step_record {
    int64_t step;
    int64_t at;            /* where its record begins in its log, for what is not here; -1: nowhere */
    int32_t log;           /* which of the logs read */
    int32_t segment;       /* that wrote it (stat/steplog.h) */
    uint32_t record_bytes; /* length of the record */
    uint32_t loads_at;     /* of `expert_load` from the record's beginning; 0: it has none */
    double loss, router_loss[ROUTER_LOSSES], grad_norm, lr, time_s;
    int64_t tokens, dropped, overflow;
    double phase_s[PHASES], phase_max_s[PHASES]; /* mean over ranks, and the slowest */
    double phase_min_s[PHASES]; /* what the mean is at least; of Megatron's logs alone, which may not tell it */
    int32_t phase_rank[PHASES]; /* which that is; -1 where absent */
    bool diverged; /* loss or gradient norm are there and no finite number (JSON has null for them) */
    double busy_s[COMM_TIMES], exposed_s[COMM_TIMES];
    double load_max_over_mean, load_min_over_mean, load_std;
    double peak_bytes;
};

/* Memory by pipeline stage: the most that a rank of it has, and that rank; NaN and -1 where absent. */
struct stage_memory {
    double bytes[STAGES];
    int32_t rank[STAGES];
    int count; /* stages up to the last that is there */
};
void stage_memory_clear(struct stage_memory *m);
void stage_memory_add(struct stage_memory *m, int stage, double bytes, int rank); /* keeps the larger */

enum scan_kind { SCAN_NOTHING, SCAN_STEP, SCAN_OTHER };

/* The next record of the line [*p, end), and *p behind it. Between records, and before the first, other output
 * may stand (a launcher's prefix, half a record of another rank): it is passed over, and *garbage says so.
 * SCAN_STEP: *r is it (at, log and segment are the caller's), and its memory has been added to `memory`.
 * SCAN_OTHER: a JSON object at *begin, of another kind or none.
 * SCAN_NOTHING: the line has no further record. */
enum scan_kind scan_record(const char **p, const char *end, const char **begin, struct step_record *r,
                           struct stage_memory *memory, bool *garbage);

/* A step whose record says nothing. */
void step_record_clear(struct step_record *r);

/* A matrix of finite numbers >= 0 at `p`, [layers][experts], as `expert_load` is, into `to`, which has room
 * for so many; with NULL only its shape is found. False when it is none, or does not fit: what `to` has is
 * spoilt. */
bool scan_loads(const char *p, int *layers, int *experts, double *to, size_t room);

#endif

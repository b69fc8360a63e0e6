/* SPDX-License-Identifier: MIT */
/* Timelines as a trace that Perfetto (ui.perfetto.dev) and chrome://tracing open: JSON of the Trace Event
 * Format. Ranks are processes, streams are threads, operations are slices, and an arrow links what one
 * collective or one message was on the ranks that took part in it. */
#ifndef DRAW_TRACE_H
#define DRAW_TRACE_H

#include <stdint.h>
#include <stdio.h>

struct trace_counts {
    int64_t ranks, missing;               /* files; ranks of the run that have none */
    int64_t operations, linked, unlinked; /* linked: collectives and messages; unlinked: parts of none */
    size_t skipped;                       /* lines that are no records */
    double apart_s; /* how much later a collective began on one rank than it ended on another: clocks differ */
};

/* The steps first to last. Operations go through as they are read; only communication waits in memory, 40 bytes
 * each. -1 with error() set; STATUS_USAGE where no file has such a step. */
int trace_write(FILE *out, char *const *paths, int count, int64_t first, int64_t last, struct trace_counts *c);

#endif

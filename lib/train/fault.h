/* SPDX-License-Identifier: MIT */
/* Faults of a run: records of them, and the markers that stand for records of ranks without the log. */
#ifndef TRAIN_FAULT_H
#define TRAIN_FAULT_H

#include "train/run.h"

/* A rank has failed alone, and error() says how: the record goes to the log, or to a marker from where this
 * rank has none. The text of error() stays with one rank a host where there are markers, and is empty on the
 * others. */
void fault_report(struct run *run);
/* Rank 0: what went wrong on a rank while `what` was done, and the run goes on. */
int fault_survived(struct run *run, const char *what, const struct heard *h);
/* The same before there is a run: the communication did not come up, or not down. From any thread. */
void fault_report_early(const struct train_options *o, const struct comm_fault *f);
/* Rank 0, once the log is open: moves the markers of an earlier start (or of this one) into it, and says so.
 * Of an earlier start those that were never whole go. How many it moved, or -1. */
int fault_gather(struct log *l, const char *log, bool earlier);

#endif

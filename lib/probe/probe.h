/* SPDX-License-Identifier: MIT */
/* What both ways of asking a machine share: health.h, whether it is as it should be, and calibrate.h, what it
 * is. */
#ifndef PROBE_PROBE_H
#define PROBE_PROBE_H

#include "base/error.h"
#include "base/process.h"
#include "comm/comm.h"
#include "plan/plan.h"
#include "probe/bench.h"
#include "probe/wire.h"

struct probe_options {
    const char *plan, *cluster, *save; /* or NULL */
    const char *output;                /* NULL: standard output */
    const char *backend, *comm;        /* auto… */
    int64_t threads;                   /* 0: as many as a run would have */
    double timeout_s;
    double tolerance; /* share by which a healthy figure may be less than expected, or a measurement vary */
    bool json;
    void (*last_words)(const struct comm_fault *f); /* see comm_open_within() */
};

/* A job of ranks that measure. */
struct probe {
    const struct probe_options *o;
    struct comm *comm;
    int threads;
    char host[HOST_NAME];   /* this rank's */
    struct machine machine; /* the plan's, or that of the cluster file; the same on all ranks */
    struct plan plan;       /* with o->plan, which is for as many ranks */
    struct bench bench;
    bool agreed; /* a failure that all ranks know of */
};

/* Collective over the job. Communication, what rank 0 reads for all (plan or cluster file), backend, memory; no
 * groups. bytes_of: of the memory that is measured with, on this backend. 0; -1 with error(), on all ranks if
 * p->agreed. To be closed in either case; the communication is the caller's to end. */
int probe_open(struct probe *p, const struct probe_options *o, size_t (*bytes_of)(const struct backend *be));
void probe_close(struct probe *p);
bool probe_is_first(const struct probe *p); /* rank 0, which speaks */
int probe_agree(struct probe *p, int r);    /* comm_agree() */

#endif

/* SPDX-License-Identifier: MIT */
/* Whether the machine is as it should be: moe-train --health, a prolog or first step of a job. In some seconds
 * all ranks measure, at once, what a run lives on, and each figure is compared with what is expected: what the
 * plan needs; what the cluster file says, counted as plans count it (cost/); else what most ranks have.
 *
 * Measured together, ranks compete as they do in a run. What a rank computes is a mean over a tenth of a
 * second, so that one which stands still half the time is half as fast, of three rounds the middle one; where
 * one of the three stands out, of nine the third slowest: once is nothing, one time in three is slow. The time
 * for which another process or rank had its processor does not count (process_waited_s()). How much that is, is
 * a check of its own: a host with other programs is busy, which makes no rank of it sick.
 */
#ifndef PROBE_HEALTH_H
#define PROBE_HEALTH_H

#include <stdio.h>

#include "probe/probe.h"

/* What is asked of each rank. */
enum health_check {
    HEALTH_PROCESSORS,  /* that the rank's threads have */
    HEALTH_MEMORY,      /* bytes that it can have */
    HEALTH_DISK,        /* bytes that are free where checkpoints go */
    HEALTH_BUSY,        /* share of the time for which others had its processors */
    HEALTH_PRODUCTS,    /* operations a second */
    HEALTH_BANDWIDTH,   /* bytes a second of memory */
    HEALTH_UPLOAD,      /* bytes a second from the host's memory to the device's, and */
    HEALTH_DOWNLOAD,    /* back */
    HEALTH_TEMPERATURE, /* of the device, and so on: what its driver tells (probe/nvml.h) */
    HEALTH_CLOCKS,
    HEALTH_THROTTLE, /* how many reasons hold its clocks down */
    HEALTH_ECC,
    HEALTH_OTHERS, /* processes of others that compute on it */
    HEALTH_INSIDE, /* bytes a second to ranks of the same host, and */
    HEALTH_ACROSS, /* to others; of a rank the median of its links */
    HEALTH_CHECKS
};
extern const struct health_row {
    const char *name, *unit;
    double scale; /* one of the unit */
    bool less;    /* less is better; of the others more is */
} health_row[HEALTH_CHECKS];

struct expectation {
    double value;     /* NaN: nothing is known */
    double least;     /* share of it that a healthy rank has; not where less is better */
    const char *from; /* "the plan", … */
};

enum { HEALTH_WORST = 4 };
/* Of one rank, as it comes to rank 0. */
struct health_rank {
    char host[HOST_NAME];
    double crowd;                /* ranks that share a processor there; 1: none does */
    double value[HEALTH_CHECKS]; /* NaN: not measured */
    double own[HEALTH_CHECKS];   /* what its device says of itself that it should be; NaN: nothing */
    char device[32], untold[96]; /* which; why its driver tells nothing, or "" */
    unsigned reason;             /* bits for nvml_reason(), of HEALTH_THROTTLE */
    int links, slow;             /* all that this rank has, and those below what is expected */
    struct link worst[HEALTH_WORST];
};

struct health {
    const struct probe_options *o;
    const char *cluster;
    int ranks;
    struct health_rank *rank; /* [ranks]; NULL where a rank was lost */
    struct expectation expect[HEALTH_CHECKS];
    const struct comm_fault *lost; /* or NULL */
};

/* The whole command: every rank returns the same status, DONE or NO, or another with error(). The report is
 * rank 0's. A rank that gives no sign of life within the time-out is an answer too: it is reported, and *broken
 * says that the job must be aborted, not closed. *comm is for the caller to end. */
enum status health_run(const struct probe_options *o, struct comm **comm, bool *broken);

/* From another thread, as comm_open_within() calls it, before the ranks have met or after they have parted: the
 * report on the rank that is lost, if that is known. */
void health_last_words(const struct probe_options *o, const struct comm_fault *f);

/* The judgement. With two links or more a rank is sick when most of them are slow; else it is the links that
 * are. A rank whose host is busy is slow in that, and not sick. */
bool health_slow(const struct health *h, int rank, enum health_check check);
bool health_links_slow(const struct health *h, int rank);
bool health_sick(const struct health *h, int rank);
bool health_healthy(const struct health *h); /* no rank is sick, no link slow, no host busy */

/* Of this rank's device, if it has one: copies, and what its driver tells while it works on such products, of
 * product_s each. 0, or -1 as sync(). */
int health_ask_device(struct probe *p, struct health_rank *r, const struct multiply *product, double product_s);
/* At rank 0: makes processes on a device those that are no ranks of this job. */
void health_count_others(struct health *h);
/* Says, once, whose driver tells nothing. */
void health_say_untold(const struct health *h);

void health_print(FILE *f, const struct health *h); /* for people */
void health_json(FILE *f, const struct health *h);  /* moe-train(1), HEALTH */

#endif

/* SPDX-License-Identifier: MIT */
/* A log as it grows: figures of its last steps, again and again. Memory is bounded: no more than those steps
 * are kept. */
#ifndef STAT_FOLLOW_H
#define STAT_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "stat/summary.h"

struct follow {
    FILE *out;        /* what is said goes there */
    const char *path; /* of the log; `-` or a pipe ends where it ends */
    int64_t last;     /* figures of speed, shares and losses are of so many steps, the last ones */
    double every_s;   /* how often at most there is something new to say */
    const struct known_figures *known; /* what a plan tells that the log does not, or NULL */
    const struct model *model;         /* whose FLOPs they are where the log does not tell, or NULL */
    struct log_hint hint;              /* the same of the log itself */
    const char *prom; /* the file in Prometheus' text format that is written anew each time, or NULL */
    bool terminal;    /* one line on stdout that is drawn again, not a line each time */
};

/* Whoever wrote the log: that is known by the first line that tells (stat/foreign.h).
 *
 * Until a pipe ends, or SIGINT or SIGTERM comes. A file that is replaced, or cut, as when logs are rotated, is
 * read to its end, and what took its place from the beginning; one that is not there yet is waited for. Counts
 * (steps, dropped, saves, restarts, …) are of all that was read. 0, or -1 with error() set: cannot read or
 * write; a pipe that had no step. */
int follow_log(const struct follow *o);

#endif

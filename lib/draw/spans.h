/* SPDX-License-Identifier: MIT */
/* Timelines (moe-timeline(5)): what the ranks of a run did in some steps, an operation a span. A file has one
 * rank, and is read from its first line to its last: memory does not grow with it. */
#ifndef DRAW_SPANS_H
#define DRAW_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { SPAN_NAME = 48, SPAN_STREAMS = 16, SPAN_GROUPS = 32 };

/* Who takes part: the members of a group, or the two ends of a stream of messages. */
struct span_group {
    char name[SPAN_NAME]; /* of the group, or of the stream */
    char *members;        /* "0 1 2 3", ascending or not, as the group is; "3>7": messages from 3 to 7 */
};

struct span_file {
    const char *path;
    FILE *f;
    int rank, ranks;
    char host[64];
    double unix_s;  /* when its clock was 0 */
    size_t skipped; /* lines that are none of its kinds */
    int stream_count, group_count;
    char stream[SPAN_STREAMS][SPAN_NAME];
    struct span_group group[SPAN_GROUPS];
    char *line;
    size_t room;
};

/* One operation. Times are seconds of the file's clock. */
struct rank_span {
    int64_t step, bytes;   /* bytes is -1 for what is no communication */
    double start_s, end_s; /* 0 <= start <= end < 1e9 */
    int stream;            /* index in the file's streams; the last one also has what is beyond */
    char op[SPAN_NAME], group[SPAN_NAME]; /* group is "" for what is no communication */
    const char *members;                  /* who takes part, or NULL where the file does not say; the file's */
};

/* Whether this is a timeline, by its first line; false for what cannot be read, and for what is no file.
 * A timeline is a file with a name: it is read more than once. */
bool spans_here(const char *path);
/* 0, or -1 with error() set: cannot open, or its first line is not a timeline's. */
int spans_open(struct span_file *f, const char *path);
/* The next operation: 1; 0 at the end; -1 with error() set. */
int spans_next(struct span_file *f, struct rank_span *s);
void spans_close(struct span_file *f);

/* Heads of all: the earliest clock. -1 with error() set where two files are of one rank, or not of one run. */
int spans_heads(char *const *paths, int count, double *earliest_s, int *ranks);

#endif

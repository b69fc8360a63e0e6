/* SPDX-License-Identifier: MIT */
/* A plan being read: read.c has the records that come once and the whole, read_tables.c those that come many
 * times. */
#ifndef PLAN_READING_H
#define PLAN_READING_H

#include "base/record.h"
#include "plan/plan.h"
#include "plan/text.h"

/* The records that come once. */
enum once {
    PART_MODEL,
    PART_CONFIG,
    PART_AXES,
    PART_BATCH,
    PART_ROUTING,
    PART_TRAINING,
    PART_MACHINE,
    PART_PREDICT,
    PART_SUM,
    PARTS
};

struct reading {
    struct plan *p;
    struct records r;
    const char *text; /* as it was, for the sum */
    char *copy;       /* which the records cut up */
    int64_t lines;    /* no table has more rows */
    bool check_sum, seen[PARTS];
    char name[64], family[32];      /* of the model record */
    int64_t figures[MODEL_FIGURES]; /* of it too */
    int model_line;
    bool *has_rank;
    int64_t ranks, members, places; /* ranks, members of groups, and places of experts, so far */
};

/* A record of a table: 1, 0 when it is none of them, -1 with error(). */
int read_table_record(struct reading *d);

#endif

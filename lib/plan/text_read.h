/* SPDX-License-Identifier: MIT */
/* A plan being read: read.c has the records that come once and the whole, read_tables.c those that come many
 * times. */
#ifndef PLAN_TEXT_READ_H
#define PLAN_TEXT_READ_H

#include "base/record.h"
#include "plan/fields.h"
#include "plan/slots.h"
#include "plan/text.h"

/* The records that come once. */
enum once {
    ONCE_MODEL,
    ONCE_CONFIG,
    ONCE_AXES,
    ONCE_BATCH,
    ONCE_ROUTING,
    ONCE_TRAINING,
    ONCE_MACHINE,
    ONCE_PREDICT,
    ONCE_SUM,
    ONCE
};

struct reading {
    struct plan *p;
    struct records r;
    const char *text; /* as it was, for the sum */
    char *copy;       /* which the records cut up */
    int64_t lines;    /* no table has more rows */
    bool check_sum, seen[ONCE];
    struct {
        char text[64];
        int64_t number;
    } said[MAX_FIELDS]; /* by the model record, in the order of model_fields */
    int model_line;
    bool *has_rank;
    int64_t ranks, members;                 /* and members of groups, so far */
    struct expert_place *places;            /* of experts, in the order of the text */
    int64_t place_count, place_room, named; /* named: lines without experts count too */
};

/* A record of a table: 1, 0 when it is none of them, -1 with error(). */
int read_table_record(struct reading *d);

#endif

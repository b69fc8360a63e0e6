/* SPDX-License-Identifier: MIT */
/* A list of claims on a plan, as text: moe-claims(5).
 *
 *     NAME[/ARG...] OP VALUE[UNIT]     # comment
 *
 * NAME is a figure (base/figures.h), a fact (claim/facts.h), `group`, or `plan`. */
#ifndef CLAIM_CLAIMS_H
#define CLAIM_CLAIMS_H

#include "base/bound.h"
#include "plan/fields.h"
#include "plan/plan.h"

enum claim_kind {
    CLAIM_FIGURE, /* a figure of the table: its bound */
    CLAIM_FACT,   /* a number that the layout gives, claim/facts.h: its bound */
    CLAIM_GROUP,  /* group/KIND/N = 0-15, or of all groups group/KIND/i = 4i-4i+3 */
    CLAIM_FIELD,  /* plan/RECORD/KEY: a bound where it is a number, else a word */
};

/* Ranks of a group: from first + i·step_first to last + i·step_last, i being the group's number. */
struct member_range {
    int64_t first, step_first, last, step_last;
};

enum { CLAIM_TEXT = 160, CLAIM_RANGES = 64, CLAIM_WORD = 40, CLAIMS_MOST = 1000 };
struct claim {
    char text[CLAIM_TEXT]; /* as written, blanks joined, without the comment */
    int line;
    enum claim_kind kind;
    const struct figure *figure;
    const struct fact *fact;
    double arg; /* of the fact; NaN: none */
    const struct field *field;
    const struct record_fields *record;
    struct bound bound; /* op "=" alone with a word or ranks */
    char word[CLAIM_WORD];
    enum group_kind group;
    int64_t group_index; /* -1: of all */
    struct member_range *ranges;
    int range_count;
};

struct claims {
    struct claim *list;
    int count;
};

/* From a text that need not end in NUL. -1 with error() (status 2): "FILE:LINE:COLUMN: …". */
int claims_parse(struct claims *c, const char *text, size_t bytes, const char *where);
/* `what`: a file, `-`, or the name of a list in the data directory's claims/. */
int claims_read(struct claims *c, const char *what);
void claims_release(struct claims *c);

#endif

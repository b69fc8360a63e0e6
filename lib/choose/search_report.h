/* SPDX-License-Identifier: MIT */
/* What a search found: a ranked table for people, or JSON. */
#ifndef CHOOSE_SEARCH_REPORT_H
#define CHOOSE_SEARCH_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "choose/search.h"

/* The first `top` layouts, each that is not the best with what it loses most by: of the parts that a step's
 * seconds go to (cost/seconds.h), the one that grew most, and by how much. Then one line of counts. */
int search_print(const struct layout_search *s, int64_t top, FILE *f);
/* One object: layouts[], their figures named as in moe-figures(5), and the counts. */
int search_json(const struct layout_search *s, int64_t top, FILE *f);

/* Their pieces: what the job is; a line of the table, under its head; the same as JSON. */
void job_print(const struct plan *p, FILE *f);
void layout_print_head(const char *label, FILE *f);
void layout_print(const char *label, const struct plan *p, const char *split, bool runs, const char *why,
                  FILE *f);
json_t *layout_json(const struct plan *p, const char *split, bool runs);
const char *leaf_split(const struct layout_search *s,
                       const struct leaf *leaf); /* even, auto, or the one given */

#endif

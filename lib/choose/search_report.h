/* SPDX-License-Identifier: MIT */
/* What a search found: a ranked table for people, or JSON. */
#ifndef CHOOSE_SEARCH_REPORT_H
#define CHOOSE_SEARCH_REPORT_H

#include <stdio.h>

#include "choose/search.h"

/* The first `top` layouts, each that is not the best with what it loses most by: of the parts that a step's
 * seconds go to (cost/seconds.h), the one that grew most, and by how much. Then one line of counts. */
int search_print(const struct layout_search *s, int64_t top, FILE *f);
/* One object: layouts[], their figures named as in moe-figures(5), and the counts. */
int search_json(const struct layout_search *s, int64_t top, FILE *f);

#endif

/* SPDX-License-Identifier: MIT */
/* How many ranks a job needs that fits nowhere. */
#ifndef CHOOSE_SEARCH_LEAST_H
#define CHOOSE_SEARCH_LEAST_H

#include "choose/search.h"

/* error(STATUS_USAGE) with the least number of ranks of whole nodes of this kind that a layout fits on,
 * whatever number of nodes the cluster has; -1. */
int search_fits_nowhere(const struct layout_search *s);

#endif

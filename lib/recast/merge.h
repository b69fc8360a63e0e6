/* SPDX-License-Identifier: MIT */
/* Several models of one shape become one with all their experts. */
#ifndef RECAST_MERGE_H
#define RECAST_MERGE_H

#include <stdint.h>

/* Writes the models in dirs, `count` of them, which must be of one shape, as one plain Hugging Face directory:
 * the experts of the first, then of the second, and so on, and the rows of their routers likewise; all else is
 * the mean of theirs (in double precision, rounded once), as Branch-Train-MiX has it (arXiv 2403.07816).
 * config.json and the small files are the first's. *experts: how many a layer has then. -1: status 2 or 3, and
 * nothing is left. */
int merge_dirs(char *const *dirs, int count, const char *out, int64_t *experts);

#endif

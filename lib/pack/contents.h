/* SPDX-License-Identifier: MIT */
/* What an archive holds, by its index alone: nothing behind that is read. */
#ifndef PACK_CONTENTS_H
#define PACK_CONTENTS_H

#include <stdbool.h>
#include <stdio.h>

#include "pack/index.h"

/* "archive (split) of step 100, experts 0-3 alone", into about, which it returns. */
char *contents_about(const struct pack_index *ix, char about[static 160]);
/* A line a file, or all of it as JSON. -1: status 2 for what is no archive of ours. */
int contents_list(const char *path, bool json, FILE *out);

#endif

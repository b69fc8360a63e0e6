/* SPDX-License-Identifier: MIT */
/* What lies in a directory. */
#ifndef PACK_TREE_H
#define PACK_TREE_H

#include <stdbool.h>

#include "pack/index.h"

/* All regular files and folders of it, links followed, into an index: names in order, sizes, modes,
 * times; no sums. Names that begin with a dot (.git, .cache, ARCHIVE_FOLDER) are passed over; so is what
 * is neither a file nor a folder, which is said. -1: cannot be read; status 2 for names that an archive
 * cannot hold, or folders without end. */
int tree_walk(struct pack_index *ix, const char *dir);
bool tree_is_safetensors(const char *name);

#endif

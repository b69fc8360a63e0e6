/* SPDX-License-Identifier: MIT */
/* A directory that appears whole or not at all: made beside its name, and renamed at the end. */
#ifndef BASE_OUTDIR_H
#define BASE_OUTDIR_H

/* fill(with, dir) makes `dir`, all of it, on disk; then that gets the name `target`, which must not be there,
 * or be an empty directory. -1: status 2 for a target that is there; fill()'s error, or that of the file
 * system; then what there is of `dir` is removed. */
int outdir_fill(const char *target, int (*fill)(void *with, const char *dir), void *with);

#endif

/* SPDX-License-Identifier: MIT */
/* A directory that appears whole or not at all: made beside its name, and renamed at the end. */
#ifndef BASE_OUTDIR_H
#define BASE_OUTDIR_H

struct outdir {
    char *target; /* the name that it shall have */
    char *dir;    /* the one that it has until then */
};

/* Names alone; `dir` is for the caller to make. The target must not be there, or be an empty directory. -1:
 * status 2. */
int outdir_open(struct outdir *o, const char *target);
/* Gives it its name, which is on disk then; what is in it must be already. On failure call outdir_abandon(). */
int outdir_commit(struct outdir *o);
/* Removes what there is of it. The error stays what it was; returns -1. */
int outdir_abandon(struct outdir *o);
void outdir_release(struct outdir *o);

#endif

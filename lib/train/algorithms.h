/* SPDX-License-Identifier: MIT */
/* How the backend computes where a library has several ways (backend.h): kept with a checkpoint, so that who
 * resumes on the same kind of device gets the same bits. */
#ifndef TRAIN_ALGORITHMS_H
#define TRAIN_ALGORITHMS_H

#include "train/run.h"

/* Collective. *text: on rank 0 what all ranks with its kind of device use, to be freed; NULL on the others, and
 * where there is no choice. */
int algorithms_gather(struct run *run, char **text);
/* Collective, before the first step: those of the step directory, if it has any. */
int algorithms_take(struct run *run, const char *dir);

#endif

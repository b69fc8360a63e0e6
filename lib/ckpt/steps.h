/* SPDX-License-Identifier: MIT */
/* Step directories under a root: their names, which are whole, which is newest, which may go. */
#ifndef CKPT_STEPS_H
#define CKPT_STEPS_H

#include <stdbool.h>
#include <stdint.h>

/* Room for a step directory's name. */
enum { STEP_NAME = 40 };
/* "step-00000100" into buf, which it returns. */
char *step_name(int64_t step, char buf[static STEP_NAME]);
/* The step of such a name; -1 for any other. */
int64_t step_of(const char *name);
/* Whether the last part of path begins like one: it is, or was meant to be, a step. */
bool step_meant(const char *path);
/* The whole steps directly under root, newest first; caller frees. None where there is no root; -1 when it
 * cannot be read. */
int steps_list(const char *root, int64_t **steps);

/* "ROOT/step-00000100"; caller frees. */
char *step_path(const char *root, int64_t step);
/* "ROOT/.step-00000100SUFFIX": on its way in (".tmp") or out (".old"); caller frees. */
char *step_hidden_path(const char *root, int64_t step, const char *suffix);

/* The newest whole step directory under root: its path (caller frees) and step; NULL with error status DONE
 * when there is none, -1-like error text otherwise. */
char *checkpoint_newest(const char *root, int64_t *step);

/* Keeps the newest `keep` whole step directories under root, removing the others (renamed first). Call on one
 * rank. */
int checkpoint_prune(const char *root, int keep);

#endif

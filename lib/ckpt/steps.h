/* SPDX-License-Identifier: MIT */
#ifndef CKPT_STEPS_H
#define CKPT_STEPS_H

#include <stdint.h>

/* The whole steps directly under root, newest first; caller frees. None where there is no root; -1 when it
 * cannot be read. */
int steps_list(const char *root, int64_t **steps);

/* "ROOT/step-00000100"; caller frees. */
char *step_path(const char *root, int64_t step);

#endif

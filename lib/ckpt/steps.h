/* SPDX-License-Identifier: MIT */
#ifndef CKPT_STEPS_H
#define CKPT_STEPS_H

#include <stdint.h>

/* The whole steps directly under root, newest first; caller frees. None where there is no root; -1 when it
 * cannot be read. */
int steps_list(const char *root, int64_t **steps);

#endif

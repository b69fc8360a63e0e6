/* SPDX-License-Identifier: MIT */
/* A failure inside an operation: kept until the next sync() or download(). The first one counts. */
#ifndef KERNELS_FAILURE_H
#define KERNELS_FAILURE_H

#include <stdbool.h>

void failure_set(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
bool failure_kept(void);
int failure_take(void); /* 0, or -1 with error() set; then none is kept */

#endif

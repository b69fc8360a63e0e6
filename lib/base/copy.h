/* SPDX-License-Identifier: MIT */
/* Copying much that is not wanted soon. */
#ifndef BASE_COPY_H
#define BASE_COPY_H

#include <stdint.h>

/* As memcpy(), but what is written goes past the processor's caches where it can: memory is then not read
 * before it is written, and what is in the caches stays. */
void copy_through(void *to, const void *from, int64_t bytes);

#endif

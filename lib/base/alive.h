/* SPDX-License-Identifier: MIT */
/* Signs of life. A rank that reads or writes for minutes is slow, not dead; what the others see of it is that
 * it still answers. So long work outside communication calls alive() between pieces of at most PIECE_BYTES, or
 * of a fraction of a second, and whoever talks to other ranks hangs its answering in here. */
#ifndef BASE_ALIVE_H
#define BASE_ALIVE_H

#include <stddef.h>

#define PIECE_BYTES ((size_t)8 << 20)

/* Costs next to nothing. In a thread without a hook it does nothing. */
void alive(void);
/* alive() of the calling thread calls hook(of) from now on; NULL: nothing. */
void alive_hook(void (*hook)(void *of), void *of);

#endif

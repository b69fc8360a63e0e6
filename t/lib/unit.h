/* SPDX-License-Identifier: MIT */
/* What every unit test needs: cmocka and what it asks to be included before, and random numbers that are the
 * same every time. */
#ifndef T_UNIT_H
#define T_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

/* xorshift64; *s must not be 0. */
static inline uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

#endif

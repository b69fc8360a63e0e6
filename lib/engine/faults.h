/* SPDX-License-Identifier: MIT */
/* Seeded faults: the test of the tests. A build with FAULTS=1 has, at the places that call fault(), the mistake
 * that a parallel trainer is most likely to make; $MOEKIT_FAULT names the one that is on. Other builds have
 * none of it. */
#ifndef ENGINE_FAULTS_H
#define ENGINE_FAULTS_H

#ifdef MOEKIT_FAULTS
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
static inline bool fault(const char *name)
{
    const char *on = getenv("MOEKIT_FAULT");
    return on && strcmp(on, name) == 0;
}
#else
#define fault(name) false
#endif

#endif

/* SPDX-License-Identifier: MIT */
/* Seeded faults: the test of the tests. A build with FAULTS=1 has, at the places that call these, the mistakes
 * that are most likely to be made; $MOEKIT_FAULT names the one that is on. Other builds have none of it.
 *
 *   fault(name)      what a parallel trainer gets wrong: layouts are equal no more (t/0610-faults.t)
 *   left_out(name)   a wait or a copy that is not there: the backend `late` must find it (t/0615-waits.t)
 *   broken(name)     a wrong use of NCCL: the emulator must find it, or a comparison of results, in builds with
 *                    EMULATED=1, which have all these faults (t/0830-nccl.t) */
#ifndef BASE_FAULTS_H
#define BASE_FAULTS_H

#ifdef MOEKIT_FAULTS
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
static inline bool fault(const char *name)
{
    const char *on = getenv("MOEKIT_FAULT");
    return on && strcmp(on, name) == 0;
}
#define left_out(name) fault(name)
#define broken(name)   fault(name)
#else
#define fault(name)    false
#define left_out(name) false
#define broken(name)   false
#endif

#endif

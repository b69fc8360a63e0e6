/* SPDX-License-Identifier: MIT */
#include "base/halt.h"

#ifdef MOEKIT_FAULTS
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/launcher.h"

void halt_at(const char *place)
{
    const char *where = getenv("MOEKIT_HALT");
    char here[64];
    if (!where)
        return;
    snprintf(here, sizeof here, "stop:%s:%d", place, launcher_rank());
    if (strcmp(where, here) == 0)
        raise(SIGSTOP);
    snprintf(here, sizeof here, "kill:%s:%d", place, launcher_rank());
    if (strcmp(where, here) == 0)
        raise(SIGKILL);
}

void halt_io(const char *place)
{
    const char *slow = getenv("MOEKIT_SLOW_IO");
    double s = slow ? atof(slow) : 0;
    if (s > 0)
        nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)((s - (time_t)s) * 1e9)}, NULL);
    halt_at(place);
}
#endif

/* SPDX-License-Identifier: MIT */
#include "base/halt.h"

#ifdef MOEKIT_FAULTS
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/launcher.h"

/* Whether $MOEKIT_HALT says so of this rank. */
static bool told(const char *action, const char *place)
{
    const char *where = getenv("MOEKIT_HALT");
    char here[64];
    snprintf(here, sizeof here, "%s:%s:%d", action, place, launcher_rank());
    return where && strcmp(where, here) == 0;
}

static void rest(double s)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(time_t)s) * 1e9)}, NULL);
}

void halt_at(const char *place)
{
    if (told("stop", place))
        raise(SIGSTOP);
    if (told("kill", place))
        raise(SIGKILL);
}

void halt_io(const char *place)
{
    const char *slow = getenv("MOEKIT_SLOW_IO");
    double s = slow ? atof(slow) : 0;
    if (s > 0)
        rest(s);
    halt_at(place);
}

static int rounds;

void halt_round(void)
{
    rounds++;
}

void halt_slow(const char *place, double took_s)
{
    if (told("slow", place) || (rounds % 3 == 2 && told("slow", "third")) ||
        (rounds == 2 && told("slow", "once")))
        rest(9 * took_s);
}
#endif

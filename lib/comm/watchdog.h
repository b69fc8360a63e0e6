/* SPDX-License-Identifier: MIT */
/* For the few calls of a message library that block until every rank has come, and in which no rank can look
 * after itself: a thread watches them, and ends the process when they take too long. */
#ifndef COMM_WATCHDOG_H
#define COMM_WATCHDOG_H

#include "comm/ops.h"

/* From now on until watchdog_stop() `what`, for messages, is under way. After the time-out, or when `told` and
 * this process is told to end, a thread says so through c->last_words, with the rank at fault if it is one of
 * this host that is stopped or gone, and ends the process with status 3. */
struct watchdog *watchdog_start(struct comm *c, const char *what, double timeout_s, bool told);
void watchdog_stop(struct watchdog *w);

#endif

/* SPDX-License-Identifier: MIT */
/* The loop over steps. */
#ifndef TRAIN_LOOP_H
#define TRAIN_LOOP_H

#include "train/run.h"

/* Collective. Steps up to --steps, with evaluations and checkpoints between them, or until a stop is asked for:
 * then run->status is STATUS_REQUEUE. -1 with error(). */
int run_steps(struct run *run);

/* From here on SIGUSR1 and SIGTERM wait until the loop looks for them, between two steps: it then stops,
 * checkpoints and returns REQUEUE. Before anything starts a thread; threads inherit it. With `interrupts` so
 * does SIGINT, unless it is ignored; the next one then ends the process at once.
 *
 * Nothing in a rank may handle a signal by a function: oneDNN's products move the stack pointer into memory of
 * the heap while they compute, and what the kernel writes below it for a handler overruns what lies there. */
void train_hold_signals(bool interrupts);
/* Whether it was SIGINT that stopped the run: then the process is to die of it in the end, as shells expect. */
bool train_interrupted(void);

#endif

/* SPDX-License-Identifier: MIT */
/* The root that a run saves to: marked while the run lives, its line of descent kept, what is not of it set
 * aside. */
#ifndef TRAIN_SAVES_H
#define TRAIN_SAVES_H

#include "train/run.h"

/* Collective, before anything costs much. Draws run->id; rank 0 marks --save's root, and every rank must see
 * the mark. A root that holds steps is refused without --resume (status 2), one that another run writes to
 * (3). */
int saves_open(struct run *run);
/* Collective, once the run's line is known. Steps in the root, none of them of the line: status 2. */
int saves_check_line(struct run *run);
/* Not collective: begins to lay hands on the memory that saves will take. */
void saves_prepare(struct run *run);
/* Collective, both. A save begins when this step's state is out of the device; training goes on while it
 * is written, and it ends when the step has its name and what --keep leaves no room for is removed. One that is
 * due while another is being written waits for it. A save that fails is said and logged, and run->failed_save
 * has its text until one succeeds; -1 is for what the run cannot survive: weights that are no numbers
 * (STATUS_NO), communication, the log. */
int saves_begin(struct run *run);
int saves_end(struct run *run);
/* Whether ending would keep this rank waiting: not collective. */
bool saves_written(const struct run *run);
/* A step took so long: for the slowdown that the log tells of. */
void saves_count_step(struct run *run, double time_s);
/* Lets go of a save that could not be ended; rank 0 takes the mark away. */
void saves_close(struct run *run);

#endif

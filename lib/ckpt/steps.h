/* SPDX-License-Identifier: MIT */
/* Step directories under a root: their names, which there are, which may go.
 *
 *   ROOT/step-00000100                          a checkpoint
 *        .step-00000100.RUN.tmp                 on its way in: RUN is writing it, or was killed while it did
 *        .step-00000100.RUN.old                 on its way out
 *        step-00000100.RUN.abandoned, .broken   set aside: what a branch wrote that was left, or what is not
 *                                               whole; never removed, never taken for a step. RUN: the first
 *                                               half of the id of the run that wrote it, or `before`, when
 *                                               runs had none */
#ifndef CKPT_STEPS_H
#define CKPT_STEPS_H

#include <stdbool.h>
#include <stdint.h>

#include "ckpt/line.h"

/* Room for a step directory's name. */
enum { STEP_NAME = 40 };
/* "step-00000100" into buf, which it returns. */
char *step_name(int64_t step, char buf[static STEP_NAME]);
/* The step of such a name; -1 for any other. */
int64_t step_of(const char *name);
/* "ROOT/step-00000100"; caller frees. */
char *step_path(const char *root, int64_t step);
/* "ROOT/.step-00000100.RUN.SUFFIX", suffix tmp or old; caller frees. */
char *step_hidden_path(const char *root, int64_t step, const char *run, const char *suffix);

struct step_dir {
    int64_t step;
    bool complete; /* has the files that make it a checkpoint; whether they are sound is for verify to say */
};
/* All step directories directly under root, newest first; caller frees. Their number: 0 where there is no
 * root. *aside (or NULL): how many are set aside there. -1: it cannot be read. */
int steps_list(const char *root, struct step_dir **list, int *aside);
/* The newest complete one's path (caller frees) and step; NULL with error status DONE when there is none. */
char *checkpoint_newest(const char *root, int64_t *step);

/* Of a path that is to be a checkpoint: -1 with error(), naming the newest step, where it is a root of steps
 * and no checkpoint itself; else 0. */
int steps_refuse_root(const char *path);

/* Keeps the newest `keep` complete steps of the line (NULL: of all that are there) and the one that its run
 * came from; removes the line's others, renamed first, and what killed saves and removals left. Call on one
 * rank. */
int checkpoint_prune(const char *root, int keep, const struct line *line);

/* Renames a step to the hidden name that steps_sweep() removes: it is never there in part under its own. */
int step_retire(const char *root, int64_t step, const char *run);
/* Removes what killed saves and removals left, and what was retired. */
int steps_sweep(const char *root);

/* A free name for that step under root when it is set aside, `why` being abandoned or broken; `run`: who
 * wrote it. Caller frees. */
char *step_aside_path(const char *root, int64_t step, const char *run, const char *why);
/* Says that the step was renamed to it. */
void step_say_aside(int64_t step, const char *path, const char *why);
/* Sets aside every step under root that is not complete or not of the line, and removes what killed saves
 * and removals left. Call on one rank, of a run that has marked the root. */
int steps_tidy(const char *root, const struct line *line);
/* The run that wrote the step directory, and its line: -1 where its state.json does not say. */
int step_line(const char *dir, struct line *l);

#endif

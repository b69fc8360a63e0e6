/* SPDX-License-Identifier: MIT */
/* Other trainers' logs: text for people, in which lines of a known form tell of steps. Which trainer wrote a
 * log is found by its content. What such a log does not tell is unknown, and said once, never guessed.
 *
 * A new trainer is a file foreign_NAME.c and a row in foreign.c. */
#ifndef STAT_FOREIGN_H
#define STAT_FOREIGN_H

#include <stdbool.h>
#include <stdint.h>

#include "stat/steplog.h"

struct trainer;

/* Who wrote it, or NULL: moekit, or nobody known here. Looks at the first FOREIGN_LOOK bytes until a line
 * decides. */
enum { FOREIGN_LOOK = 16 << 20 };
const struct trainer *foreign_detect(const struct log_source *s);
/* Adds all of it to the log. 0, or -1 with error() set. */
int foreign_read(struct steplog *log, int source, const struct trainer *t);

/* ---- for the readers of a trainer's lines ---- */

/* While a log is read. What is not known is 0 or NaN. */
struct foreign {
    struct steplog *log;
    const struct trainer *trainer;
    int source;
    int64_t at;                 /* where the line is in the source */
    struct step_record step;    /* of which lines are still read; step.step is -1: none */
    int64_t last_step, resumed; /* the last one added; the step that a checkpoint was loaded of, -1: none */
    int64_t steps;              /* added */
    bool any_tokens, any_time, any_loss;   /* in one of them */
    double seq, batch;                     /* tokens of a sequence, sequences of a step */
    double flop_time, flop_tokens, tflops; /* TFLOP of a rank, over so many tokens; of this step's seconds */
    double rank_rate;                      /* tokens a second and rank, of this step */
};

struct trainer {
    const char *name;
    bool (*wrote)(const char *line);                   /* whether only this trainer writes such a line */
    void (*read)(struct foreign *g, const char *line); /* a line, without escapes and its line feed */
};
extern const struct trainer trainer_megatron, trainer_deepspeed, trainer_torchtitan;

/* The record of this step, to fill in; what was open of another step is added to the log first. */
struct step_record *foreign_step(struct foreign *g, int64_t step);
/* The segment that is being read. */
struct log_segment *foreign_segment(struct foreign *g);
void foreign_world(struct foreign *g, double ranks);
void foreign_resumed(struct foreign *g, int64_t step); /* a checkpoint of this step was loaded */
void foreign_eval(struct foreign *g, int64_t step, double loss);
void foreign_save(struct foreign *g, int64_t step, double seconds);

/* The number behind `name`, blanks between: "loss:  1.5", "tps: 1,234", "1e-4", "nan". A blank, or one of |,/[
 * stands before the name. False when it is not there. */
bool foreign_number(const char *line, const char *name, double *to);
/* The same where it is a whole number >= 0. */
bool foreign_integer(const char *line, const char *name, int64_t *to);

#endif

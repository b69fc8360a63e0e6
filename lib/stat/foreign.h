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
struct foreign;

/* Whether one of these lines decides who wrote the log, and *who: NULL is moekit. */
bool foreign_decide(const struct log_lines *l, const struct trainer **who);
/* Who wrote it, or NULL: moekit, or nobody known here. Looks at the first FOREIGN_LOOK bytes until a line
 * decides. */
enum { FOREIGN_LOOK = 16 << 20 };
const struct trainer *foreign_detect(const struct log_source *s);
/* Adds all of it to the log. 0, or -1 with error() set. */
int foreign_read(struct steplog *log, int source, const struct trainer *t);

/* ---- as lines come (stat/follow.h) ---- */

struct foreign *foreign_begin(struct steplog *log, int source, const struct trainer *t);
void foreign_lines(struct foreign *g, const struct log_lines *l);
/* No more lines for now: what there is of the last step is added, to a log whose steps are all in memory.
 * Should more of it come, it is added anew. */
void foreign_pause(struct foreign *g);
/* Says once who wrote the log, and what it does not tell. */
void foreign_say(struct foreign *g, const char *path);
/* Adds what is left, and frees. */
void foreign_end(struct foreign *g);

/* ---- for the readers of a trainer's lines ---- */

/* Megatron's timers, while those of a step are read (foreign_megatron_timers.c). */
struct megatron_timers {
    unsigned begun;          /* a bit a phase: it has its first timer */
    bool together;           /* forward and backward have their sum for a bound */
    int listed;              /* the timer whose ranks are listed; -1: none */
    int first;               /* whether it is the first of its phase; -1: it does not count */
    double before_s, sum_ms; /* of the phase's other timers; of the ranks listed */
    int ranks;               /* so many */
};

/* While a log is read. What is not known is 0 or NaN. */
struct foreign {
    struct steplog *log;
    const struct trainer *trainer;
    int source;
    int64_t at;                 /* where the line is in the source */
    struct step_record step;    /* of which lines are still read; step.step is -1: none */
    int64_t last_step, resumed; /* the last one added; the step that a checkpoint was loaded of, -1: none */
    int64_t steps;              /* added */
    bool paused;                /* the step has been added as it was when no more lines came */
    bool said;
    struct log_event save;                 /* of which more may be read; save.step is -1: none */
    struct megatron_timers timers;         /* of this step */
    bool any_tokens, any_time, any_loss;   /* in one of them */
    double seq, batch;                     /* tokens of a sequence, sequences of a step */
    double flop_time, flop_tokens, tflops; /* TFLOP of a rank, over so many tokens; of this step's seconds */
    double rank_rate;                      /* tokens a second and rank, of this step */
    enum { FOREIGN_NONE, FOREIGN_BOUNDS, FOREIGN_MEANS } phases; /* of all ranks: what the log tells */
    char *text;                                                  /* the line */
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

/* A line of Megatron's timers, which comes behind its step; false: it is none. */
bool foreign_timers(struct foreign *g, const char *line);

/* The number behind `name`, blanks between: "loss:  1.5", "tps: 1,234", "1e-4", "nan". A blank, or one of |,/[
 * stands before the name. False when it is not there. */
bool foreign_number(const char *line, const char *name, double *to);
/* The same where it is a whole number >= 0. */
bool foreign_integer(const char *line, const char *name, int64_t *to);

#endif

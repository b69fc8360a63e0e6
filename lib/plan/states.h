/* SPDX-License-Identifier: MIT */
/* What is kept of each parameter: its weights, and the optimizer's states beside them, f32 and cut over the
 * replicas by ZeRO-1. Memory, checkpoints and loading are loops over this table; only the optimizer
 * (engine/optimizer.c) and its kernel know what a state means. To add one: a row here and its use there. */
#ifndef PLAN_STATES_H
#define PLAN_STATES_H

#include "plan/plan.h"

enum state {
    STATE_WEIGHTS,
    STATE_MASTER, /* the weights in f32, where they are narrower */
    STATE_EXP_AVG,
    STATE_EXP_AVG_SQ,
    STATES
};

struct state_style {
    const char *suffix; /* of its tensor in a checkpoint: NAME.exp_avg */
    /* An f32 copy of the weights: kept beside narrower ones only, and made from them where a checkpoint has
     * none. Other states begin with zeros, and a checkpoint must have them. */
    bool copy;
};
extern const struct state_style state_style[STATES];

/* Whether a rank keeps it, for weights of f32 or narrower ones. */
static inline bool state_kept(enum state s, bool f32)
{
    return !(state_style[s].copy && f32);
}

#endif

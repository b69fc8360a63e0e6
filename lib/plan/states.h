/* SPDX-License-Identifier: MIT */
/* What training keeps of each trained parameter beside its weights: a row for each state, and a row for each
 * optimizer with the states that it needs. The arena, the engine and checkpoints are loops over the states that
 * a plan keeps; only the optimizer's update (engine/optimizer.c) and its kernel tell one from another.
 *
 * A state has the parameter's shape, is f32 whatever the plan's type, and is cut over the replicas by ZeRO-1
 * (shard.h). */
#ifndef PLAN_STATES_H
#define PLAN_STATES_H

#include "plan/plan.h"

/* In the order in which the arena and checkpoints have them. */
enum state {
    STATE_MASTER, /* the weights in f32 */
    STATE_EXP_AVG,
    STATE_EXP_AVG_SQ,
    STATES
};

struct state_kind {
    const char *suffix; /* a checkpoint calls it by the parameter's name and this */
    bool beside_bf16;   /* kept only where weights are bf16: weights of f32 are this state themselves */
    /* Begins as the weights, and is taken from them where a checkpoint does not have it; the others begin at 0,
     * and a checkpoint must have them. */
    bool from_weights;
};
extern const struct state_kind states[STATES];

enum optimizer { OPTIMIZER_ADAMW, OPTIMIZERS };
struct optimizer_kind {
    const char *name;
    bool needs[STATES];
};
extern const struct optimizer_kind optimizers[OPTIMIZERS];

/* Whether the optimizer keeps the state beside weights that are f32, or bf16. */
bool optimizer_keeps(enum optimizer o, enum state s, bool f32);
/* The plan's optimizer. There is only one, so a plan does not say which. */
enum optimizer plan_optimizer(const struct plan *p);
/* Whether the ranks of the plan keep the state. */
bool plan_keeps(const struct plan *p, enum state s);
/* Bytes of all that they keep of one parameter. */
int plan_state_bytes(const struct plan *p);

#endif

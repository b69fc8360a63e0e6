/* SPDX-License-Identifier: MIT */
#include "plan/states.h"

const struct state_kind states[STATES] = {
    [STATE_MASTER] = {.suffix = ".master", .beside_bf16 = true, .from_weights = true},
    [STATE_EXP_AVG] = {.suffix = ".exp_avg"},
    [STATE_EXP_AVG_SQ] = {.suffix = ".exp_avg_sq"},
};

const struct optimizer_kind optimizers[OPTIMIZERS] = {
    [OPTIMIZER_ADAMW] = {"adamw", {[STATE_MASTER] = true, [STATE_EXP_AVG] = true, [STATE_EXP_AVG_SQ] = true}},
};

bool optimizer_keeps(enum optimizer o, enum state s, bool f32)
{
    return optimizers[o].needs[s] && !(f32 && states[s].beside_bf16);
}

enum optimizer plan_optimizer(const struct plan *p)
{
    return OPTIMIZER_ADAMW;
}

bool plan_keeps(const struct plan *p, enum state s)
{
    return optimizer_keeps(plan_optimizer(p), s, p->training.precision == PRECISION_F32);
}

int plan_state_bytes(const struct plan *p)
{
    int bytes = 0;
    for (int s = 0; s < STATES; s++)
        bytes += !plan_keeps(p, s) ? 0 : s != STATE_MASTER && p->training.moment_bf16 ? 2 : 4;
    return bytes;
}

/* SPDX-License-Identifier: MIT */
#include "plan/states.h"

const struct state_style state_style[STATES] = {
    [STATE_WEIGHTS] = {.suffix = ""},
    [STATE_MASTER] = {.suffix = ".master", .copy = true},
    [STATE_EXP_AVG] = {.suffix = ".exp_avg"},
    [STATE_EXP_AVG_SQ] = {.suffix = ".exp_avg_sq"},
};

/* SPDX-License-Identifier: MIT */
#include "base/phases.h"

const char *const phase_name[PHASES] = {
    [PHASE_FORWARD] = "forward",
    [PHASE_BACKWARD] = "backward",
    [PHASE_DISPATCH] = "dispatch",
    [PHASE_COMBINE] = "combine",
    [PHASE_TP] = "tp",
    [PHASE_PP] = "pp",
    [PHASE_DP] = "dp",
    [PHASE_OPTIMIZER] = "optimizer",
    [PHASE_IDLE] = "idle",
};

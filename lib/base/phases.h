/* SPDX-License-Identifier: MIT */
/* What a rank does at any moment of a step: the phases of moe-train's clock and of the step log. One at a time,
 * so they add up to the step. */
#ifndef BASE_PHASES_H
#define BASE_PHASES_H

enum phase {
    PHASE_FORWARD,
    PHASE_BACKWARD,
    PHASE_DISPATCH,
    PHASE_COMBINE,
    PHASE_TP,
    PHASE_PP,
    PHASE_DP,
    PHASE_OPTIMIZER,
    PHASE_IDLE,
    PHASES
};
/* As the log has them: forward backward dispatch combine tp pp dp optimizer idle. */
extern const char *const phase_name[PHASES];

#endif

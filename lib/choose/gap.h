/* SPDX-License-Identifier: MIT */
/* How far a plan is from the best layout of its job, and which of its choices cost what: `moe-partition search
 * --compare`.
 *
 * A change is another value of one choice, all others held: of tp, cp, etp, ep, pp, vpp, the microbatch,
 * schedule, split, ZeRO, recompute or order. dp and edp follow, as does what the change leaves no choice: vpp
 * 1 and its schedule without a pipeline, a schedule in chunks with vpp above 1. Each is a plan of its own, its
 * seconds simulated. The path takes the change that gains most, again and again, until none does: what the
 * best gains beyond its end comes of several changes at once. */
#ifndef CHOOSE_GAP_H
#define CHOOSE_GAP_H

#include "choose/search.h"
#include "choose/shares.h"

enum choice {
    CHOICE_TP,
    CHOICE_CP,
    CHOICE_ETP,
    CHOICE_EP,
    CHOICE_PP,
    CHOICE_VPP,
    CHOICE_MICRO,
    CHOICE_SCHEDULE,
    CHOICE_SPLIT,
    CHOICE_ZERO,
    CHOICE_RECOMPUTE,
    CHOICE_ORDER,
    CHOICES
};
extern const char *const choice_name[CHOICES]; /* tp cp … */

enum split_kind { SPLIT_EVEN, SPLIT_AUTO, SPLIT_OWN };
struct layout_choice {
    struct axes axes;
    int64_t micro;
    int schedule, zero;
    enum recompute recompute;
    enum split_kind split; /* own: the plan's */
};

struct layout_change {
    enum choice choice;
    char to[64];             /* "64, with vpp 1 and 1f1b" */
    struct layout_choice at; /* after it */
    double step_s, memory_bytes;
};

enum { PATH_MOST = 12 };
struct gap {
    struct plan plan; /* its predictions made anew; not owned but for these */
    struct layout_choice at;
    struct layout_search search;
    struct plan best; /* search_plan_release() */
    bool only_runnable, runs,
        best_runs; /* whether what moe-train cannot run was left out; the plan and the best */
    struct step_shares plan_share, best_share;
    struct layout_change alone[CHOICES]; /* step_s NaN: no other value that is legal and fits */
    struct layout_change path[PATH_MOST];
    int path_count;
};

/* r: what is held fixed; r->like is the plan. With `any` what moe-train cannot run is looked at too, as it is
 * where the plan is such. -1 with error(): an unsound plan, or as search_init() and search_run(). */
int gap_find(struct gap *g, const struct request *r, bool any);
void gap_release(struct gap *g);

#endif

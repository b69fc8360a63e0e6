/* SPDX-License-Identifier: MIT */
/* The axes of a layout and the order of ranks along them (Megatron-Core's rule).
 *
 * The order string gives each axis a stride, the product of the sizes of the axes to its left. It is read
 * twice: for the dense part with sizes (tp, cp, 1, dp, pp), for the expert part with (etp, 1, ep, edp, pp).
 * Both must cut the same pipeline groups. */
#ifndef PLAN_AXES_H
#define PLAN_AXES_H

#include "plan/plan.h"

enum axis { AXIS_TP, AXIS_CP, AXIS_EP, AXIS_DP, AXIS_PP, AXES };
extern const char *const axis_name[AXES];

#define MAX_WORLD     (1 << 20)
#define DEFAULT_ORDER "tp-cp-ep-dp-pp"

/* The order as axes, leftmost first: 0, or -1 with error() when it does not name each axis once. */
int order_parse(const char *order, enum axis out[static AXES]);
void dense_sizes(const struct axes *a, int64_t size[static AXES]);
void expert_sizes(const struct axes *a, int64_t size[static AXES]);
/* Stride of an axis under these sizes. */
int64_t axis_stride(const enum axis order[static AXES], const int64_t size[static AXES], enum axis which);

/* Fills in what is 0: dp, edp and *world follow from each other, everything else is 1. -1 with error() (status
 * 2: rule, numbers, legal values). */
int axes_derive(struct axes *a, int64_t *world);

/* "1, 2 or 4": divisors of n, those nearest to `to`. */
void near_divisors(char *buf, size_t room, int64_t n, int64_t to);

#endif

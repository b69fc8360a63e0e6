/* SPDX-License-Identifier: MIT */
/* Host memory that a rank takes while a checkpoint is written beside training (ckpt/save.h): the bytes that it
 * writes.
 *
 * The ranks of one pipeline rank and ep index, etp·edp of them, write all of their experts and a share of the
 * stage's dense tensors, with which all groups write as many bytes where that is enough, in equal parts
 * (ckpt/units.h): to within a unit of 8 MiB
 *
 *   (experts + dense/ep) / (etp·edp), with as many experts on every ep rank
 *
 * of bytes as they are in files: whole tensors, weights in the plan's type, f32 for each state that it keeps.
 * A plan does not count them in device memory, and a host that has no room for them makes training wait for the
 * disk. */
#ifndef COST_SNAPSHOT_H
#define COST_SNAPSHOT_H

#include "plan/plan.h"

int64_t snapshot_bytes(const struct plan *p, int rank);

#endif

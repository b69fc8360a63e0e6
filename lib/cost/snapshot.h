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
 * disk.
 *
 * How often to save: a save takes δ, and a failure, every M on average, has half an interval T done again, so
 * that δ/T + T/2M of all time is lost, least at T = sqrt(2·δ·M) (J. W. Young, A first order approximation to
 * the optimum checkpoint interval, CACM 17(9), 1974; J. T. Daly, FGCS 22(3), 2006, whose higher orders matter
 * where δ is not much less than M). A cluster file says nothing of its storage: δ is taken to be the time that
 * the bytes take over the rank's way out of its node, which storage is seldom faster than. */
#ifndef COST_SNAPSHOT_H
#define COST_SNAPSHOT_H

#include "plan/plan.h"

int64_t snapshot_bytes(const struct plan *p, int rank);

/* δ of this rank; NaN where the machine does not know the speed of its network. */
double save_seconds(const struct plan *p, int rank);
/* T; and the share of all time that is lost with a save every so many seconds. */
double save_interval_s(double save_s, double mtbf_s);
double save_lost_share(double save_s, double mtbf_s, double every_s);

#endif

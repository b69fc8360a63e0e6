/* SPDX-License-Identifier: MIT */
/* What a rank computes with: which backend, on which device, with how many threads. */
#ifndef TRAIN_DEVICE_H
#define TRAIN_DEVICE_H

#include "train/run.h"

/* Opens the backend that --backend names, or for auto the one called as the device of the plan's machine: -1
 * (status 3) if this build has none. The ranks of a host take its devices by local rank. */
int device_open(struct run *run);
/* Collective. Ranks share a device only where --comm names a kind that lets them: else -1 (status 3), naming
 * two that do. */
int device_check(struct run *run);

#endif

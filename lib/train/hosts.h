/* SPDX-License-Identifier: MIT */
/* Where the ranks run: whether groups lie on the nodes that the plan says. */
#ifndef TRAIN_HOSTS_H
#define TRAIN_HOSTS_H

#include "comm/comm.h"
#include "plan/plan.h"

/* How to start the plan's ranks where the plan has them, with the launcher that started this one: into text,
 * which it returns. */
enum { HOSTS_LAUNCH = 128 };
const char *hosts_launch(const struct plan *p, char text[static HOSTS_LAUNCH]);
/* Collective. A group that spans more hosts than the plan has nodes for it: -1 (status 2) on rank 0, naming the
 * first and how many more there are, or with `warn` a notice. *hosts: how many the job is on, on rank 0. */
int hosts_check(struct comm *c, const struct plan *p, bool warn, int *hosts);

#endif

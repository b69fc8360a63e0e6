/* SPDX-License-Identifier: MIT */
/* The parts of which summary_make() is made. Each fills in its figures, of log->count > 0 steps; `from` is the
 * first step that counts for speed. */
#ifndef STAT_SUMMARY_PARTS_H
#define STAT_SUMMARY_PARTS_H

#include "stat/summary.h"

extern const enum figure_id router_loss_figure[ROUTER_LOSSES];

void part_warmup(struct summary *s, struct steplog *log);
void part_speed(struct summary *s, struct steplog *log, size_t from, const struct known_figures *known);
void part_phases(struct summary *s, struct steplog *log, size_t from);
void part_losses(struct summary *s, struct steplog *log);

#endif

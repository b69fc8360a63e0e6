/* SPDX-License-Identifier: MIT */
/* What a plan predicts beside what a log measured: figures, and the parts of step_s, each worst first. Parts
 * are predicted for the pipeline rank that computes longest (cost/seconds.h), and measured as phases, means
 * over all ranks. */
#ifndef STAT_BESIDE_H
#define STAT_BESIDE_H

#include <stdio.h>

#include "plan/plan.h"
#include "stat/summary.h"

/* What a plan knows that a log may not tell. */
struct known_figures beside_known(const struct plan *p);

enum beside_form { BESIDE_TEXT, BESIDE_JSON, BESIDE_HTML };
void beside_report(FILE *f, const struct plan *p, const struct summary *s, enum beside_form form);
/* On stderr, once, where the log is not of this plan. */
void beside_notices(const struct plan *p, const struct steplog *log);

#endif

/* SPDX-License-Identifier: MIT */
/* A plan's schedule as a picture: what cost/diagram.h draws in text. */
#ifndef DRAW_DIAGRAM_H
#define DRAW_DIAGRAM_H

#include "plan/plan.h"

/* Writes an SVG of a row a pipeline rank over units of time (F 1; B 2, or 1 with W 1), by gnuplot. The file, or
 * stdout for `-`, appears under its name only when it is complete. 0, or -1 with error(): as plan_simulate(),
 * and STATUS_ENV when there is no gnuplot. */
int diagram_write(const struct plan *p, const char *path);

#endif

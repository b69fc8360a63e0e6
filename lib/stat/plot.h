/* SPDX-License-Identifier: MIT */
/* The run as a picture, drawn by gnuplot. */
#ifndef STAT_PLOT_H
#define STAT_PLOT_H

#include "stat/steplog.h"
#include "stat/summary.h"

/* Loss above, tokens a second below, over steps. `path` ends in .png or .svg, or is `-`: SVG to stdout. It
 * appears under its name only when it is complete. 0, or -1 with error() set: STATUS_ENV when there is no
 * gnuplot. */
int plot_write(const char *path, struct steplog *log, const struct summary *s);

#endif

/* SPDX-License-Identifier: MIT */
/* The run as a picture of several panels, drawn by gnuplot. */
#ifndef DRAW_PLOT_H
#define DRAW_PLOT_H

#include <stdbool.h>

#include "draw/panels.h"

/* `path` ends in .png or .svg; `-.png` and `-.svg` are the same on stdout, and `-` is text for a terminal
 * there. Whether that is so, and the file can be written: 0, or -1 with error() set. */
int plot_check(const char *path);
/* The picture, to a path that was checked. wanted[panel]: those to draw, and what the data does not tell is an
 * error; all false: whatever it tells. The file appears under its name only when it is complete. 0, or -1 with
 * error() set: STATUS_ENV when there is no gnuplot. */
int plot_write(const char *path, const struct picture *p, const bool wanted[PANELS]);

#endif

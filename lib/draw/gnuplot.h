/* SPDX-License-Identifier: MIT */
/* gnuplot draws: it reads one script, data included, on its stdin and writes on its stdout, which is the
 * output. So no name needs quoting, and nothing is left behind. */
#ifndef DRAW_GNUPLOT_H
#define DRAW_GNUPLOT_H

#include <stdio.h>

/* An unnamed file for the script; NULL with error() set. (Not a pipe: a gnuplot that stops early cannot end us
 * by SIGPIPE.) */
FILE *gnuplot_script(void);
/* Draws what the script says, from its beginning. 0, or -1 with error() set, STATUS_ENV when there is no
 * gnuplot. */
int gnuplot_run(FILE *script, FILE *out);
/* In single quotes, in which gnuplot sees nothing special. */
void gnuplot_quoted(FILE *script, const char *text);

#endif

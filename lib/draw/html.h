/* SPDX-License-Identifier: MIT */
/* A run on one page: a file that needs nothing else, to keep or to mail. Pictures are inline SVG; there is no
 * script, and nothing is fetched. Light and dark follow the reader's settings, and paper is light. */
#ifndef DRAW_HTML_H
#define DRAW_HTML_H

#include <stdio.h>

#include "draw/panels.h"
#include "plan/plan.h"
#include "stat/report.h"

struct page {
    const struct report *report;
    const struct picture *picture;
    const struct plan *plan; /* or NULL */
    const char *plan_path;
    const char *const *logs; /* paths, for the foot */
    int log_count;
};

/* 0, or -1 with error() set: STATUS_ENV when there is no gnuplot. */
int html_write(FILE *f, const struct page *page);

/* ---- its parts ---- */

extern const char html_style[];
/* Text from outside, with what means something in HTML escaped and bytes that are no character replaced. */
void html_text(FILE *f, const char *text);
/* A panel as an inline <svg>, its names made its own by `number`. */
int html_panel(FILE *f, const struct picture *p, enum panel which, int number);

#endif

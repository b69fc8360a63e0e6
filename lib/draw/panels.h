/* SPDX-License-Identifier: MIT */
/* Panels: one picture each of a run, as gnuplot draws it. Colours are of Okabe and Ito, heat maps are viridis:
 * those who do not see red or green see them, and grey printers keep their order. */
#ifndef DRAW_PANELS_H
#define DRAW_PANELS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/words.h"
#include "draw/picture.h"

enum panel {
    PANEL_LOSS,      /* over steps, with evaluations */
    PANEL_SPEED,     /* tokens a second, over steps */
    PANEL_PHASES,    /* seconds of a step by phase, stacked, over steps */
    PANEL_IMBALANCE, /* largest load over the mean, over steps */
    PANEL_EXPERTS,   /* heat map, layer by expert, of the loads over the log */
    PANEL_GRADIENT,  /* its norm, over steps */
    PANEL_SCHEDULE,  /* what each rank did when, of timelines */
    PANELS
};
extern const struct words panel_words; /* loss speed phases imbalance experts gradient schedule */

/* Whether the picture's data tells anything for this panel. */
bool panel_known(const struct picture *p, enum panel which);

/* Over what a panel is drawn: its texts are the page's own in HTML. */
enum look { LOOK_FILE, LOOK_PAGE, LOOK_TERMINAL };
/* Draws it, behind picture_data(). 0, or -1 with error() set. */
int panel_draw(FILE *script, const struct picture *p, enum panel which, enum look look);

/* What gnuplot does not draw on a terminal is written as text: 1 if it was, else 0; or -1 with error() set. */
int panel_text(FILE *out, const struct picture *p, enum panel which, int columns);

/* The schedule of timelines, for these two. */
int schedule_draw(FILE *script, const struct picture *p, enum look look);
int schedule_text(FILE *out, const struct picture *p, int columns);

#endif

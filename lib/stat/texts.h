/* SPDX-License-Identifier: MIT */
/* Numbers as people write them, for reports. */
#ifndef STAT_TEXTS_H
#define STAT_TEXTS_H

#include "base/figures.h"

/* Texts that are good until TEXTS more were asked for. Zeroed at first. */
enum { TEXTS = 12 };
struct texts {
    char s[TEXTS][40];
    int next;
};

/* The value as printf would have it, or `-` for what is not finite. */
const char *text_as(struct texts *w, const char *fmt, double value);
/* What is known to lie between two: `1.5-2.0 %`, or `<= 2.0 %` without a least one above 0. */
const char *text_between(struct texts *w, const char *fmt, double least, double most, const char *unit);
/* With the digits that matter, never in powers of ten where people would not write one. */
const char *text_number(struct texts *w, double value);
const char *text_count(struct texts *w, double value);
const char *text_percent(struct texts *w, double ratio, int digits);
/* With one of six letters for thousands, millions, …: people say 7B parameters and 2 GFLOP. */
const char *text_scaled(struct texts *w, double value, const char *letters);
const char *text_bytes(struct texts *w, double bytes);

/* A figure with its unit. */
const char *text_figure(struct texts *w, const struct figure *x, double value);

#define LETTERS_SI    " kMGTPE"
#define LETTERS_COUNT "-KMBTPE"

#endif

/* SPDX-License-Identifier: MIT */
/* What a plan predicts of a figure, or a log has of it, and how it comes about. */
#ifndef CLAIM_FIGURES_H
#define CLAIM_FIGURES_H

#include "claim/facts.h"

/* Of the log where there is one, else of the plan's predictions. */
void figure_find_value(const struct about *a, const struct figure *x, struct known_value *f);

#endif

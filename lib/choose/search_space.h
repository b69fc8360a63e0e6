/* SPDX-License-Identifier: MIT */
/* What a search goes over: search.h says what. */
#ifndef CHOOSE_SEARCH_SPACE_H
#define CHOOSE_SEARCH_SPACE_H

#include "choose/search.h"

/* Splits and orders; -1 with error() where the split given fits no pipeline. */
int space_init(struct layout_search *s);
/* Nodes, their spreads and ways. */
void space_enumerate(struct layout_search *s);
/* The ways to divide states (ZeRO) that are searched. */
void space_zeros(const struct layout_search *s, int *first, int *last);
void space_release(struct layout_search *s);

#endif

/* SPDX-License-Identifier: MIT */
/* Rules that warn at most: what is legal and can be run or planned, and may not be meant, or wastes memory or
 * time. moe-train does not ask them. */
#ifndef CHECK_ADVICE_H
#define CHECK_ADVICE_H

#include "plan/rules.h"

extern const struct rule advice_rules[];
extern const int advice_rule_count;

#endif

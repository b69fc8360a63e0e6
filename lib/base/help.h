/* SPDX-License-Identifier: MIT */
/* What -h prints, filled to the width of a terminal. */
#ifndef BASE_HELP_H
#define BASE_HELP_H

#include "base/options.h"

/* On stdout: usage, what it is about, the command's options, the `count` options that all have, the notes. A
 * newline in a text ends a line, others are broken at a blank before HELP_WIDTH columns. */
#define HELP_WIDTH 80
void help_print(const struct command *c, const struct opt *all_have, int count);

#endif

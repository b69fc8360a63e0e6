/* SPDX-License-Identifier: MIT */
/* Sealing an edited plan. */
#ifndef CHECK_SEAL_H
#define CHECK_SEAL_H

#include "check/check.h"

/* Checks the plan, whatever its sum says. When no rule fails, writes it back (`-`: stdin to stdout) with the
 * sum over it, and where the edit changed what is predicted (predict-matches) with that record made anew; all
 * other lines, comments among them, stay as they are. Returns 0; 1 when a rule fails (in *findings, nothing is
 * written); -1 with error(). *findings is to be released in every case. */
int plan_seal(const char *path, struct findings *findings);

#endif

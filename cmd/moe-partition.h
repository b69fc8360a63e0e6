/* SPDX-License-Identifier: MIT */
/* What the files of moe-partition share. */
#ifndef MOE_PARTITION_H
#define MOE_PARTITION_H

#include "base/options.h"
#include "plan/plan.h"

/* Verbs (moe-partition_runs.c). */
extern const struct command place_command, replan_command;
int run_place(int argc, char **argv);
int run_replan(int argc, char **argv);

/* The command line, "moe-partition 0.1.0: moe-partition -m moe-tiny …", for the plans that it makes. */
extern const char *made_by;

/* moe-partition.c: by notice(), and to a file (NULL: standard output). */
void warn_if_too_large(const struct plan *p);
int write_plan(const struct plan *p, const char *path, int (*write)(const struct plan *, FILE *));

#endif

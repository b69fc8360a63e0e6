/* SPDX-License-Identifier: MIT */
/* A batch script for sbatch that starts a command on each rank, on the node that the plan has it on. */
#ifndef EMIT_SLURM_H
#define EMIT_SLURM_H

#include "plan/plan.h"

/* -1 with error() (status 3) when f cannot take it. */
int plan_write_slurm(const struct plan *p, FILE *f);
/* A rankfile of Open MPI, for mpirun --rankfile (mpirun(1) of Open MPI 4.1, "Rankfiles"). */
int plan_write_rankfile(const struct plan *p, FILE *f);

#endif

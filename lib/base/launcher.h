/* SPDX-License-Identifier: MIT */
/* What started this process, as its environment tells before MPI starts. The only place that knows how each
 * launcher calls things. */
#ifndef BASE_LAUNCHER_H
#define BASE_LAUNCHER_H

#include <stdbool.h>

/* By none: also in the batch script of a Slurm job, or when srun started this one process without PMIx. */
enum launcher { LAUNCHER_NONE, LAUNCHER_MPIRUN /* Open MPI's */, LAUNCHER_SRUN, LAUNCHER_OTHER };
enum launcher launcher_kind(void);

bool launcher_has_pmix(void);   /* which Open MPI needs to find the other ranks */
int launcher_rank(void);        /* 0 where it is not told */
int launcher_ranks(void);       /* of the job; 0 where it is not told */
int launcher_local_ranks(void); /* those on this host; 0 where it is not told */
int launcher_local_cpus(
    void); /* that srun's job has on this host, bound to them or not; 0 where it is not told */
double launcher_grace_s(void);  /* between SIGTERM of mpirun and its kill; 0 under others, which wait longer */
const char *launcher_job(void); /* a name that all ranks of one start share; "" where it is not told */

#endif

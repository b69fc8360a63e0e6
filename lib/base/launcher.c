/* SPDX-License-Identifier: MIT */
#include "base/launcher.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static int number(const char *text)
{
    int64_t v;
    return text && parse_int(text, 0, 1 << 30, &v) ? (int)v : 0;
}

enum launcher launcher_kind(void)
{
    if (getenv("OMPI_COMM_WORLD_SIZE"))
        return LAUNCHER_MPIRUN; /* under Slurm too, where its daemons are tasks of srun */
    if (getenv("SLURM_STEP_ID") && (launcher_has_pmix() || number(getenv("SLURM_STEP_NUM_TASKS")) > 1))
        return LAUNCHER_SRUN;
    return launcher_has_pmix() || getenv("PMI_RANK") ? LAUNCHER_OTHER : LAUNCHER_NONE;
}

bool launcher_has_pmix(void)
{
    return getenv("PMIX_RANK") != NULL;
}

int launcher_rank(void)
{
    const char *rank = getenv("PMIX_RANK");
    rank = rank ? rank : getenv("PMI_RANK");
    return number(rank ? rank : getenv("SLURM_PROCID"));
}

int launcher_ranks(void)
{
    switch (launcher_kind()) {
    case LAUNCHER_MPIRUN:
        return number(getenv("OMPI_COMM_WORLD_SIZE"));
    case LAUNCHER_SRUN:
        return number(getenv("SLURM_STEP_NUM_TASKS"));
    default:
        return 0;
    }
}

/* The entry of a node in a list such as "4(x2),3", which is 4, 4, 3; 0 where there is none. */
static int entry(const char *list, int64_t node)
{
    while (list && *list) {
        char *end;
        long tasks = strtol(list, &end, 10), times = 1;
        if (strncmp(end, "(x", 2) == 0) {
            times = strtol(end + 2, &end, 10);
            end += *end == ')';
        }
        if (tasks <= 0 || tasks > 1 << 20 || times <= 0)
            return 0;
        if (node < times)
            return (int)tasks;
        node -= times;
        list = *end == ',' ? end + 1 : NULL;
    }
    return 0;
}

int launcher_local_ranks(void)
{
    switch (launcher_kind()) {
    case LAUNCHER_MPIRUN:
        return number(getenv("OMPI_COMM_WORLD_LOCAL_SIZE"));
    case LAUNCHER_SRUN:
        return entry(getenv("SLURM_STEP_TASKS_PER_NODE"), number(getenv("SLURM_NODEID")));
    default:
        return number(getenv("MPI_LOCALNRANKS"));
    }
}

int launcher_local_cpus(void)
{
    return launcher_kind() == LAUNCHER_SRUN ? number(getenv("SLURM_CPUS_ON_NODE")) : 0;
}

double launcher_grace_s(void)
{
    const char *s = getenv("OMPI_MCA_odls_base_sigkill_timeout");
    return launcher_kind() != LAUNCHER_MPIRUN ? 0 : s ? number(s) : 1;
}

const char *launcher_job(void)
{
    const char *job = getenv("PMIX_NAMESPACE"), *slurm = getenv("SLURM_JOB_ID");
    return job ? job : slurm ? slurm : "";
}

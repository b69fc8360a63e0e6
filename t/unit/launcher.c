/* SPDX-License-Identifier: MIT */
/* What environments of launchers say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/launcher.h"

static const char *const names[] = {
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
    "PMI_RANK",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "SLURM_STEP_NUM_TASKS",
    "SLURM_NODEID",
    "SLURM_STEP_TASKS_PER_NODE",
    "SLURM_NTASKS",
    "SLURM_JOB_ID",
    "SLURM_CPUS_ON_NODE",
    "MPI_LOCALNRANKS",
    "OMPI_MCA_odls_base_sigkill_timeout",
};

#define SRUN "SLURM_STEP_ID=0 SLURM_PROCID=5 SLURM_JOB_ID=9 SLURM_CPUS_ON_NODE=8 "

static void environments(void **state)
{
    static const struct {
        const char *set;
        enum launcher kind;
        bool pmix;
        int rank, ranks, local, cpus;
        const char *job;
        double grace_s;
    } cases[] = {
        {"", LAUNCHER_NONE, false, 0, 0, 0, 0, ""},
        /* the batch shell of a job, which srun did not start */
        {"SLURM_JOB_ID=9 SLURM_PROCID=0 SLURM_NTASKS=4 SLURM_CPUS_ON_NODE=8", LAUNCHER_NONE, false, 0, 0, 0, 0,
         "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=1", LAUNCHER_NONE, false, 5, 0, 0, 0, "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=8 SLURM_STEP_TASKS_PER_NODE=4(x2) SLURM_NODEID=1", LAUNCHER_SRUN, false, 5,
         8, 4, 8, "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=8 SLURM_STEP_TASKS_PER_NODE=3(x2),2 SLURM_NODEID=2 PMIX_RANK=7 "
              "PMIX_NAMESPACE=s.9",
         LAUNCHER_SRUN, true, 7, 8, 2, 8, "s.9"},
        {SRUN "SLURM_STEP_NUM_TASKS=6 SLURM_STEP_TASKS_PER_NODE=1,5 SLURM_NODEID=0", LAUNCHER_SRUN, false, 5, 6,
         1, 8, "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=6 SLURM_STEP_TASKS_PER_NODE=1,5 SLURM_NODEID=2", LAUNCHER_SRUN, false, 5, 6,
         0, 8, "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=6 SLURM_STEP_TASKS_PER_NODE=many SLURM_NODEID=0", LAUNCHER_SRUN, false, 5,
         6, 0, 8, "9"},
        {SRUN "SLURM_STEP_NUM_TASKS=6 SLURM_STEP_TASKS_PER_NODE=2(x SLURM_NODEID=0", LAUNCHER_SRUN, false, 5, 6,
         0, 8, "9"},
        /* mpirun in a Slurm job: its daemons are tasks of srun */
        {SRUN "SLURM_STEP_NUM_TASKS=2 SLURM_STEP_TASKS_PER_NODE=1(x2) SLURM_NODEID=1 OMPI_COMM_WORLD_SIZE=8 "
              "OMPI_COMM_WORLD_LOCAL_SIZE=4 PMIX_RANK=6",
         LAUNCHER_MPIRUN, true, 6, 8, 4, 0, "9", 1},
        {"OMPI_COMM_WORLD_SIZE=2 OMPI_MCA_odls_base_sigkill_timeout=60", LAUNCHER_MPIRUN, false, 0, 2, 0, 0, "",
         60},
        {"PMI_RANK=1 MPI_LOCALNRANKS=3", LAUNCHER_OTHER, false, 1, 0, 3, 0, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[400], *save;
        for (size_t k = 0; k < sizeof names / sizeof *names; k++)
            unsetenv(names[k]);
        strcpy(text, cases[i].set);
        for (char *at = strtok_r(text, " ", &save); at; at = strtok_r(NULL, " ", &save)) {
            char *value = strchr(at, '=');
            *value = '\0';
            setenv(at, value + 1, 1);
        }
        assert_int_equal(launcher_kind(), cases[i].kind);
        assert_int_equal(launcher_has_pmix(), cases[i].pmix);
        assert_int_equal(launcher_rank(), cases[i].rank);
        assert_int_equal(launcher_ranks(), cases[i].ranks);
        assert_int_equal(launcher_local_ranks(), cases[i].local);
        assert_int_equal(launcher_local_cpus(), cases[i].cpus);
        assert_string_equal(launcher_job(), cases[i].job);
        assert_true(launcher_grace_s() == cases[i].grace_s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(environments)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

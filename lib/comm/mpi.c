/* SPDX-License-Identifier: MIT */
/* The kind `mpi`: messages by nonblocking MPI, and patient polling. mpi_point.c has those from one rank to
 * another, mpi_batch.c those of collectives, mpi_message.c what both need; no other files know MPI.
 *
 * There is one communicator for the host's messages and one for those of device operations. Groups are lists of
 * ranks, and messages match by (rank, tag): point to point by the caller's tag, those of a group by a tag made
 * of its hash. MPI delivers the messages of one tag between two ranks in order. */
#include <math.h>
#include <mpi.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/mpi_alive.h"
#include "comm/mpi_batch.h"
#include "comm/mpi_message.h"
#include "comm/mpi_point.h"
#include "comm/ops.h"
#include "comm/watchdog.h"

#define ABORT_S 20 /* a launcher that does not end the job by then never will */

/* *cpus: processors that the ranks of this host may use, all together: each may be bound to its own. And what
 * of them is this rank's. Slurm may give a job less than a host without keeping it from the rest. */
static int count_cpus(struct comm *c, MPI_Comm host, int *cpus)
{
    cpu_set_t mine, *each = xcalloc((size_t)c->local_ranks, sizeof *each);
    process_cpus(&mine);
    int code = MPI_Allgather(&mine, sizeof mine, MPI_BYTE, each, sizeof mine, MPI_BYTE, host);
    double share = 0;
    *cpus = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        int sharers = 0;
        for (int i = 0; i < c->local_ranks; i++)
            sharers += CPU_ISSET(cpu, &each[i]) != 0;
        *cpus += sharers > 0;
        if (CPU_ISSET(cpu, &mine))
            share += 1.0 / (sharers ? sharers : 1);
    }
    free(each);
    if (launcher_local_cpus())
        share = fmin(share, (double)launcher_local_cpus() / c->local_ranks);
    c->processors = (int)fmax(1, share + 1e-6);
    return code;
}

static int look_around(struct comm *c)
{
    struct mpi *m = c->state;
    MPI_Comm host;
    int code = MPI_Comm_split_type(m->comm, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &host), cpus = 1;
    if (code)
        return code;
    code = MPI_Comm_rank(host, &c->local_rank);
    if (!code)
        code = MPI_Comm_size(host, &c->local_ranks);
    if (!code) {
        c->local_list = xcalloc((size_t)c->local_ranks, sizeof *c->local_list);
        code = MPI_Allgather(&c->rank, 1, MPI_INT, c->local_list, 1, MPI_INT, host);
    }
    if (!code)
        code = count_cpus(c, host, &cpus);
    if (!code)
        code = mpi_alive_open(c, host);
    MPI_Comm_free(&host);
    /* A crowd of pollers that only yield keep each other from the one that has work. */
    double crowd = cpus < c->local_ranks ? (double)c->local_ranks / cpus : 1;
    m->spin_s = crowd > 1 ? 2e-6 : 20e-6;
    m->yield_s = 1e-3 / (crowd * crowd);
    m->nap_s = crowd > 10 ? 20e-6 * crowd : 200e-6;
    return code;
}

/* Without PMIx Open MPI's start fails with a page of text from every rank, which does not say what to do. One
 * that was built for another interface is told to use it by OMPI_MCA_pmix. */
static int can_meet(void)
{
#ifdef OPEN_MPI
    if (launcher_kind() == LAUNCHER_SRUN && !launcher_has_pmix() && !getenv("OMPI_MCA_pmix"))
        return error(STATUS_ENV, "%s",
                     launcher_rank() > 0 ? "" /* said once */
                                         : "the ranks cannot find each other: start them with srun --mpi=pmix "
                                           "(srun --mpi=list shows what this Slurm has), or with mpirun");
#endif
    return 0;
}

static int start_mpi(struct mpi *m)
{
    int on = 0, off = 0, level;
    MPI_Initialized(&on);
    MPI_Finalized(&off);
    if (off)
        return error(STATUS_ENV, "MPI has been finalised: it cannot start twice");
    if (on)
        return 0;
    TRY(can_meet());
    /* MPI's own blocking calls, at the start and the end, should make way too when the host is crowded. */
    if (launcher_local_ranks() > sysconf(_SC_NPROCESSORS_ONLN))
        setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code)
        return mpi_failed(code, "MPI_Init_thread");
    m->started = true;
    return 0;
}

static int join(struct comm *c)
{
    struct mpi *m = c->state;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    int code = MPI_Comm_dup(MPI_COMM_WORLD, &m->comm);
    if (!code)
        code = MPI_Comm_set_errhandler(m->comm, MPI_ERRORS_RETURN);
    if (!code)
        code = MPI_Comm_dup(m->comm, &m->device);
    if (!code)
        code = MPI_Comm_rank(m->comm, &c->rank);
    if (!code)
        code = MPI_Comm_size(m->comm, &c->size);
    if (!code)
        code = look_around(c);
    int *most = NULL, found = 0;
    if (!code)
        code = MPI_Comm_get_attr(m->comm, MPI_TAG_UB, &most, &found);
    if (code)
        return mpi_failed(code, "starting MPI");
    if (!found || *most < 2 * COMM_TAGS - 1)
        return error(STATUS_ENV, "this MPI has too few message tags: %d", found ? *most : 0);
    return 0;
}

static void close_mpi(struct comm *c)
{
    struct mpi *m = c->state;
    mpi_alive_close(c);
    struct watchdog *w = watchdog_start(c, "MPI_Finalize", c->timeout, false);
    if (m->device != MPI_COMM_NULL)
        MPI_Comm_free(&m->device);
    if (m->comm != MPI_COMM_NULL)
        MPI_Comm_free(&m->comm);
    if (m->started)
        MPI_Finalize();
    watchdog_stop(w);
    free(m);
}

static int open_mpi(struct comm *c)
{
    struct mpi *m = xcalloc(1, sizeof *m);
    m->comm = m->device = MPI_COMM_NULL;
    c->state = m;
    struct watchdog *w = watchdog_start(c, "the start of MPI", c->timeout, true);
    int rc = start_mpi(m) || join(c);
    watchdog_stop(w);
    if (rc) {
        free(m); /* the others cannot go on: the caller ends the process, and so the job */
        return -1;
    }
    return 0;
}

static void abort_mpi(struct comm *c, int status)
{
    mpi_linger(c);
    c->last_words = NULL; /* they have been said */
    watchdog_start(c, "MPI_Abort", ABORT_S, false);
    MPI_Abort(MPI_COMM_WORLD, status);
}

const struct comm_ops comm_mpi = {
    .kind = "mpi",
    .open = open_mpi,
    .close = close_mpi,
    .abort = abort_mpi,
    .post_all = mpi_post_all,
    .test_all = mpi_test_all,
    .await_all = mpi_await_all,
    .free_all = mpi_free_all,
    .post = mpi_post,
    .done = mpi_done,
    .wait = mpi_wait,
};

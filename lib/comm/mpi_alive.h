/* SPDX-License-Identifier: MIT */
/* Inside the kind `mpi`: waits, who is alive, and who waits for whom.
 *
 * Nothing is sent while all is well. A rank that has waited for an eighth of the time-out, or 5 s, asks those
 * it waits for how they are. Every rank answers in alive() and in its own waits: that it works, or that it
 * waits, and then for whom in the end: it may itself be told that the one it waits for waits for a third. What
 * it learns of the end of such a chain it passes on to whoever has asked it since its wait began.
 *
 *     rank 0 waits for 1, 1 waits for 2, 2 is stopped; the time-out is 60 s
 *      5 s   0 asks 1, 1 asks 2        1 answers: I wait, for 2, of which I have seen nothing for 5 s
 *     60 s   1 gives 2 up, and tells 0, which asked: I wait, for 2, of which I have seen nothing for 60 s
 *            0 gives 2 up too. Both name rank 2, and go on answering for some seconds before they end the job.
 *
 * A rank is given up when it has not answered for the time-out (it is stopped, or its host is gone) or when the
 * end of its chain has not. Two that wait for each other answer all the while: a circle is given up a time-out
 * after it was seen to be one.
 *
 * Times are ages, as no two clocks agree. A rank counts only time that it has itself watched: one that was
 * stopped for an hour accuses nobody when it goes on. */
#ifndef COMM_MPI_ALIVE_H
#define COMM_MPI_ALIVE_H

#include <mpi.h>

#include "comm/ops.h"

struct signs;

/* Collective. What this rank knows of others, in its state; `host` has the ranks of this host. 0 or MPI's code.
 * */
int mpi_alive_open(struct comm *c, MPI_Comm host);
void mpi_alive_close(struct comm *c);

/* A wait. Polls cost little at first, for latency, then make way for the ranks that share the processors. Naps
 * grow with the time waited, so that they never add more than a fraction to it. */
struct patience {
    const struct group *g;
    const char *what; /* the operation; lives as long as the wait */
    int (*awaited)(const void *of, int *peer,
                   int most); /* peers still awaited, each once: how many are in peer[] */
    const void *of;
    double start;   /* on this rank's own clock */
    double began_s; /* now_s() */
    double spin_s, yield_s, moving_s;
};

/* The rank waits from now on. In the wait `bytes` move. */
void mpi_wait_begin(struct patience *p, size_t bytes);
/* Between two polls. False when the wait is given up. */
bool mpi_still(struct patience *p);
/* The rank works again. */
void mpi_wait_end(struct patience *p);
/* Instead, after mpi_still() has said no: error() and comm_fault() that name who is lost. -1. */
int mpi_wait_lost(struct patience *p);

/* Answers those who ask; does nothing most of the time. */
void mpi_answer(struct comm *c);
/* Goes on answering, so that whoever waits for this rank learns whom it has given up. */
void mpi_linger(struct comm *c);
/* comm_fault(): `rank` (-1: unknown) failed in an operation in which `count` peers are awaited. */
void mpi_blame(const struct group *g, const char *what, int rank, const int *peer, int count);

#endif

/* SPDX-License-Identifier: MIT */
/* Communication between the ranks of a job: one table of functions a kind (`self`: one rank; `mpi`; `nccl`: mpi
 * for the host's messages, and NVIDIA's NCCL for device operations; `strict`: mpi, or self, with no more than
 * NCCL gives, for tests). A kind is a file, and a row of ops.h.
 *
 * A struct group is an ordered set of ranks that holds this one; "peer" is an index into it. Operations on
 * device memory are queued in streams (collective.h), those on host memory are done when they return (host.h,
 * and the messages below). Groups of one rank cost nothing (a copy at most). Everything is deterministic: sums
 * run in rank order in f32. Every member of a group must make the same calls on it in the same order.
 *
 * Errors: -1 with error() set (status 3). A peer that gives no sign of life within the timeout is an error that
 * names the operation, the group and the peers still awaited; comm_fault() says which rank is at fault, though
 * it be one that a peer waits for. A rank gives signs of life in calls of this header and in alive()
 * (base/alive.h): slow is not dead. After an error the job can only end: comm_abort(). */
#ifndef COMM_COMM_H
#define COMM_COMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend.h"
#include "base/words.h"

struct comm;
struct group;
struct comm_request;

/* One piece of a message. All pieces for one peer in one call travel as one message, in list order; lists of
 * the two sides must agree in total bytes, not in cutting. A piece for oneself is a copy. */
struct comm_piece {
    int peer;
    void *p; /* device memory, or host memory where the call says so */
    size_t bytes;
};

/* The default: what a lost rank costs a job, and longer than a disk that is alive keeps a call waiting. */
enum { COMM_TIMEOUT_S = 120 };
extern const struct words comm_words; /* the kinds' names */
/* `kind`: "self", "mpi", "nccl", "strict", or "auto" (mpi when a launcher started this process,
 * base/launcher.h; else self). Starts MPI if it must, and only once in a process. Then ranks are known and host
 * operations work, and a backend can be opened on the device that the local rank says. */
struct comm *comm_open(const char *kind);
/* The same, with the timeout from the start on. When the communication does not come up in that time, or
 * does not go down in comm_close(), or this process is told to end (SIGTERM, held back) meanwhile, a thread
 * calls last_words (NULL: nothing) with what is known, error() saying it, and ends the process with status
 * 3. */
struct comm_fault;
struct comm *comm_open_within(const char *kind, double timeout_s,
                              void (*last_words)(const struct comm_fault *));
/* Collective. Where device operations run; before the first of them. 0 or -1. */
int comm_attach(struct comm *c, const struct backend *be);
/* Where they run from now on: the same backend under another table, for a while. */
void comm_redirect(struct comm *c, const struct backend *be);
/* Collective; finalises MPI if comm_open() started it. NULL is fine. */
void comm_close(struct comm *c);
/* Ends every rank of the job with this exit status: at once or, when a rank was lost, after a few seconds in
 * which the others learn which. Does not return. */
_Noreturn void comm_abort(struct comm *c, int status);

/* The process got SIGTERM, and took it from the signals that are held back; one that is still pending counts
 * too, without this call. When the job's launcher was mpirun, which kills two seconds later, a wait then ends
 * with an error: at once if a rank of this host is gone, else just before that time is over. */
void comm_end(void);

/* What communication knows of its failure. */
enum { COMM_AWAITED = 8 };
struct comm_fault {
    int rank;      /* at fault; -1: not known */
    char host[64]; /* of that rank; "": not known */
    char collective[48], group[48];
    int awaited[COMM_AWAITED], awaited_count; /* ranks, the first of them */
    bool told;                                /* learnt from the launcher, which ends the job */
    bool gone; /* its process is; it may have ended because of another rank, and left a record that says so */
};
/* After an error; NULL when the failure was not in communication. */
const struct comm_fault *comm_fault(const struct comm *c);

int comm_rank(const struct comm *c);
int comm_size(const struct comm *c);
const char *comm_kind(const struct comm *c);
int comm_local_rank(const struct comm *c);        /* this one among those of the job on this host */
int comm_local_ranks(const struct comm *c);       /* how many these are */
const int *comm_local_list(const struct comm *c); /* they, in order */
/* Processors for this rank's threads, at least one: of those that it may run on, a fair part of each that other
 * ranks of this host may run on too. So it is the same whether the launcher binds ranks or not. */
int comm_processors(const struct comm *c);
void comm_set_timeout(struct comm *c, double seconds); /* 0: wait for ever */
/* Device scratch for sums, the same size on every rank; 4 to 16 MiB is as fast as more. Kept, not owned.
 * Without it (NULL) 64 KiB are taken from the backend when first needed. */
void comm_set_scratch(struct comm *c, void *device, size_t bytes);
/* The same for the sums of one stream, which then go beside those of all others. NULL: like them again. */
void comm_set_scratch_beside(struct comm *c, const struct stream *s, void *device, size_t bytes);

/* A group over world ranks, all members calling with the same list; `name` (kept by copy) is for messages.
 * Ranks not in the list do not call. NULL on failure. comm_world(): everyone; do not free. */
struct group *comm_group(struct comm *c, const char *name, const int *ranks, int count);
void comm_group_free(struct group *g);
/* Collective over the job, once, after comm_attach(): device operations of these groups, and of the world, may
 * begin. Every rank passes its groups in one order of their kinds, NULL where it has none of a kind; a group
 * has the name of its kind, and those of a kind share no rank. For kinds of communication that make something
 * for each group (nccl); else it does nothing. A group may be freed; what was made for it goes with
 * comm_close(). */
int comm_join(struct comm *c, struct group *const *groups, int count);
struct group *comm_world(struct comm *c);
/* Whether device operations may be part of a backend's graph: not where the host moves the bytes. */
bool comm_in_graphs(const struct comm *c);
int group_size(const struct group *g);
int group_rank(const struct group *g); /* this rank's index in it */

/* From one to another on host memory, without waiting. The buffers belong to the request until comm_wait(),
 * which frees it (NULL is fine). Messages between two ranks match by tag (0 … COMM_TAGS-1), whatever the group;
 * those of one tag in order. Sizes must be equal. idle_s, if not NULL, is increased by the time comm_wait()
 * spent before the message began to arrive. host_send() never blocks, whatever the size; comm_wait() on a send
 * may wait until the peer has called host_recv() and then any of this header. Data moves only while both sides
 * are in a call of this header, comm_done() being the cheapest. */
enum { COMM_TAGS = 1 << 20 };
struct comm_request *host_send(struct group *g, int peer, int tag, const void *p, size_t bytes);
struct comm_request *host_recv(struct group *g, int peer, int tag, void *p, size_t bytes);
int comm_wait(struct comm_request *r, double *idle_s);
bool comm_done(struct comm_request *r); /* does not free */

#endif

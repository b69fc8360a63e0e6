/* SPDX-License-Identifier: MIT */
/* Between comm.c and collective.c, which know groups and device memory, and the kinds, which move bytes. */
#ifndef COMM_OPS_H
#define COMM_OPS_H

#include "comm/comm.h"

/* What a kind provides. All memory here is host memory, or device memory mapped to the host. */
struct comm_ops {
    const char *kind;
    int (*open)(struct comm *
                    c); /* fills state, rank, size, and of this host local_rank, _ranks, _list and processors */
    int (*attach)(struct comm *c); /* the backend is there now; NULL if that is all the same to it */
    void (*close)(struct comm *c);
    void (*abort)(struct comm *c, int status); /* may return: the caller then exits */

    /* Messages between members of a group: all pieces for one peer are one message. No pieces are empty, none
     * is for oneself. `what` names the operation in errors and lives on, the lists need not. Device operations
     * and the host's do not match each other. test_all(): 1 when all are done, 0: not yet, -1: failed; it moves
     * them on and does not wait. await_all(): a pause between two tests, when there is nothing else to do; -1
     * when it gives up. free_all() in any state. */
    struct comm_batch *(*post_all)(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                   const struct comm_piece *recv, int recvs, bool device);
    int (*test_all)(struct comm_batch *b);
    int (*await_all)(struct comm_batch *b);
    void (*free_all)(struct comm_batch *b);
    /* Of a group's device operations none begins before the one that was queued before it has ended. */
    bool one_at_a_time;

    /* Point to point on host memory, to oneself too. wait() does not free the request: comm.c does, with
     * free(). */
    struct comm_request *(*post)(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes);
    bool (*done)(struct comm_request *r);
    int (*wait)(struct comm_request *r, double *idle_s);

    /* Of one operation a peer's pieces in a list touch: nothing would pack them. */
    bool one_piece;

    /* Device operations by a library of the device's own, queued in s. NULL: made of the messages above. The
     * lists have what travels (swap.h), and are the caller's again; groups are of more than one rank. */
    int (*swap)(struct group *g, struct stream *s, const char *what, const struct comm_piece *send, int sends,
                const struct comm_piece *recv, int recvs);
    int (*all_gather)(struct group *g, struct stream *s, const void *part, void *whole, size_t bytes);
    /* Collective over the job: comm_join(). NULL: nothing to do. */
    int (*join)(struct comm *c, struct group *const *groups, int count);
};

/* The kinds there are, a row each: the file lib/comm/NAME.c defines comm_NAME. */
#define COMM_KINDS(X) X(self) X(mpi) X(strict) X(nccl)

#define X(name) extern const struct comm_ops comm_##name;
COMM_KINDS(X)
#undef X

struct comm {
    const struct comm_ops *ops;
    const struct backend *be; /* NULL until comm_attach() */
    int rank, size, local_rank, local_ranks, processors;
    int *local_list; /* [local_ranks] */
    double timeout;
    struct comm_scratch {
        const struct stream *s; /* NULL: any */
        char *p;
        size_t bytes;
    } scratch, beside;
    void *own_scratch; /* until comm_set_scratch() gives a better one */
    struct group *world;
    void *state; /* of the kind, or of the one that it stands on */
    void *above; /* of a kind that stands on another */
    void (*last_words)(const struct comm_fault *f);
    bool failed; /* fault tells of it */
    struct comm_fault fault;
};

/* The head of a kind's batch. */
struct comm_batch {
    double
        arrived_s; /* now_s() when the last message to here was there to be moved; 0: not yet, or not known */
};

/* For a host that waits: what is queued in streams goes on. -1 when that has failed. */
int comm_poll(struct comm *c);

/* Whether a launcher started this process, as one of several or not. */
bool comm_launched(void);

/* Whether SIGTERM has come: see comm_end(). */
bool comm_told_to_end(void);

/* A group is a list of ranks and nothing more, so that hundreds of them cost nothing to make. */
struct group {
    struct comm *c;
    char *name;
    int *ranks;
    int size, me;
    int64_t queued, ended; /* device operations */
    int64_t *turns;        /* of the kind `strict`: [size], NULL until it has one */
    void *device;          /* of the kind `nccl`: what comm_join() has made for it; not the group's own */
    uint32_t hash; /* of the name and the ranks, the same on all members: keeps groups' messages apart */
};

/* The head of a kind's request. `host`: its memory. */
struct comm_request {
    struct group *g;
    bool receive;
    int peer, tag;
    size_t bytes;
    void *host;
};

#define LEAST_SCRATCH (64 << 10) /* what comm_set_scratch() must at least give */

#endif

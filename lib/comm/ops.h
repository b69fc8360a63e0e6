/* SPDX-License-Identifier: MIT */
/* Between comm.c and collective.c, which know groups and device memory, and the kinds, which move bytes. */
#ifndef COMM_OPS_H
#define COMM_OPS_H

#include "comm/comm.h"

/* What a kind provides. All memory here is host memory, or device memory mapped to the host. */
struct comm_ops {
    const char *kind;
    int (*open)(struct comm *c);   /* fills state, rank, size, and of this host local_rank, _ranks and _list */
    int (*attach)(struct comm *c); /* backend and stream are there now; NULL if that is all the same to it */
    void (*close)(struct comm *c);
    void (*abort)(struct comm *c, int status); /* may return: the caller then exits */

    /* Messages of a collective: all pieces for one peer are one message. No pieces are empty, none is for
     * oneself. `what` names the operation in errors. The lists need not live on. wait_all() frees the batch,
     * fails or not. */
    struct comm_batch *(*post_all)(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                   const struct comm_piece *recv, int recvs);
    int (*wait_all)(struct comm_batch *b);

    /* Point to point, to oneself too. wait() does not free the request: comm.c does, with free(). */
    struct comm_request *(*post)(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes);
    bool (*done)(struct comm_request *r);
    int (*wait)(struct comm_request *r, double *idle_s);

    /* Device collectives of the kind's own. NULL: those of collective.c, made of the messages above. */
    int (*all_gather)(struct group *g, const void *part, void *whole, size_t bytes);
    int (*reduce_scatter)(struct group *g, enum type type, const void *whole, void *part, int64_t count);
    int (*all_reduce)(struct group *g, float *x, int64_t count);
    int (*exchange)(struct group *g, const struct comm_piece *send, int sends, const struct comm_piece *recv,
                    int recvs);
};

/* The kinds there are, a row each: the file lib/comm/NAME.c defines comm_NAME. */
#define COMM_KINDS(X) X(self) X(mpi)

#define X(name) extern const struct comm_ops comm_##name;
COMM_KINDS(X)
#undef X

struct comm {
    const struct comm_ops *ops;
    const struct backend *be; /* NULL until comm_attach() */
    struct stream *stream;
    int rank, size, local_rank, local_ranks;
    int *local_list; /* [local_ranks] */
    double timeout;
    char *scratch;
    size_t scratch_bytes;
    void *own_scratch; /* until comm_set_scratch() gives a better one */
    struct group *world;
    void *state; /* of the kind */
    void (*last_words)(const struct comm_fault *f);
    bool failed; /* fault tells of it */
    struct comm_fault fault;
};

/* Whether SIGTERM has come: see comm_end(). */
bool comm_told_to_end(void);

/* A group is a list of ranks and nothing more, so that hundreds of them cost nothing to make. */
struct group {
    struct comm *c;
    char *name;
    int *ranks;
    int size, me;
    uint32_t hash; /* of the name and the ranks, the same on all members: keeps groups' messages apart */
};

/* The head of a kind's request. */
struct comm_request {
    struct group *g;
    bool receive;
    int peer, tag;
    size_t bytes;
    void *host;   /* what the kind sees */
    void *device; /* the memory that `host` stands for; NULL for a host request */
};

#define LEAST_SCRATCH (64 << 10) /* what comm_set_scratch() must at least give */

#endif

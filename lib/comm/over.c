/* SPDX-License-Identifier: MIT */
#include "comm/over.h"

const struct comm_ops *over(void)
{
    static const struct comm_ops *chosen;
    if (!chosen)
        chosen = comm_launched() ? &comm_mpi : &comm_self;
    return chosen;
}

int over_open(struct comm *c)
{
    return over()->open(c);
}

void over_close(struct comm *c)
{
    over()->close(c);
}

void over_abort(struct comm *c, int status)
{
    over()->abort(c, status);
}

struct comm_batch *over_post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                 const struct comm_piece *recv, int recvs, bool device)
{
    return over()->post_all(g, what, send, sends, recv, recvs, device);
}

int over_test_all(struct comm_batch *b)
{
    return over()->test_all(b);
}

int over_await_all(struct comm_batch *b)
{
    return over()->await_all(b);
}

void over_free_all(struct comm_batch *b)
{
    over()->free_all(b);
}

struct comm_request *over_post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes)
{
    return over()->post(g, receive, peer, tag, p, bytes);
}

bool over_done(struct comm_request *r)
{
    return over()->done(r);
}

int over_wait(struct comm_request *r, double *idle_s)
{
    return over()->wait(r, idle_s);
}

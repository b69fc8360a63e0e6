/* SPDX-License-Identifier: MIT */
/* For kinds that stand on another, which moves the host's messages: mpi or, where no launcher started this
 * process, self. The functions are those of struct comm_ops, handed on. */
#ifndef COMM_OVER_H
#define COMM_OVER_H

#include "comm/ops.h"

const struct comm_ops *over(void);
int over_open(struct comm *c);
void over_close(struct comm *c);
void over_abort(struct comm *c, int status);
struct comm_batch *over_post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                 const struct comm_piece *recv, int recvs, bool device);
int over_test_all(struct comm_batch *b);
int over_await_all(struct comm_batch *b);
void over_free_all(struct comm_batch *b);
struct comm_request *over_post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes);
bool over_done(struct comm_request *r);
int over_wait(struct comm_request *r, double *idle_s);

#endif

/* SPDX-License-Identifier: MIT */
/* The kind `self`: one rank. Only messages to oneself are left to do. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/ops.h"

/* A send or a receive; unmatched ones wait in a list, in order. */
struct self_request {
    struct comm_request base;
    bool matched, wrong_size;
    struct self_request *next;
};

struct self {
    struct self_request *unmatched;
};

static int open_self(struct comm *c)
{
    c->state = xcalloc(1, sizeof(struct self));
    c->local_list = xcalloc(1, sizeof *c->local_list);
    return 0;
}

static void close_self(struct comm *c)
{
    free(c->state);
}

static void abort_self(struct comm *c, int status)
{
}

static struct comm_batch *post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                   const struct comm_piece *recv, int recvs, bool device)
{
    error(STATUS_ENV, "%s in group '%s': there is one rank only", what, g->name);
    return NULL;
}

static void match(struct self_request *a, struct self_request *b)
{
    struct self_request *to = a->base.receive ? a : b, *from = a->base.receive ? b : a;
    a->matched = b->matched = true;
    to->wrong_size = to->base.bytes != from->base.bytes;
    if (!to->wrong_size && to->base.bytes)
        memcpy(to->base.host, from->base.host, to->base.bytes);
}

static struct comm_request *post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes)
{
    struct self *s = g->c->state;
    struct self_request *r = xcalloc(1, sizeof *r);
    r->base =
        (struct comm_request){.g = g, .receive = receive, .peer = peer, .tag = tag, .bytes = bytes, .host = p};
    struct self_request **at = &s->unmatched;
    while (*at && ((*at)->base.tag != tag || (*at)->base.receive == receive))
        at = &(*at)->next;
    if (*at) {
        struct self_request *other = *at;
        *at = other->next;
        match(r, other);
    } else {
        *at = r; /* at the end */
    }
    return &r->base;
}

static bool done(struct comm_request *base)
{
    return ((struct self_request *)base)->matched;
}

static int wait_one(struct comm_request *base, double *idle_s)
{
    struct self_request *r = (struct self_request *)base;
    struct self *s = base->g->c->state;
    if (r->matched && !r->wrong_size)
        return 0;
    for (struct self_request **at = &s->unmatched; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            break;
        }
    }
    if (r->wrong_size)
        return error(STATUS_ENV, "receive (tag %d) in group '%s': the message has another size than %zu bytes",
                     base->tag, base->g->name, base->bytes);
    /* Nobody else is there to post the other half. */
    return error(STATUS_ENV, "%s (tag %d) in group '%s': no answer from peer %d (rank 0), which is this one",
                 base->receive ? "receive" : "send", base->tag, base->g->name, base->peer);
}

const struct comm_ops comm_self = {
    .kind = "self",
    .open = open_self,
    .close = close_self,
    .abort = abort_self,
    .post_all = post_all,
    .post = post,
    .done = done,
    .wait = wait_one,
};

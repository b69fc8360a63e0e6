/* SPDX-License-Identifier: MIT */
/* The kind `mpi`: messages by nonblocking MPI, and patient polling. The only file that knows MPI.
 *
 * There is one communicator. Groups are lists of ranks, and messages match by (rank, tag): point to point by
 * the caller's tag, a collective's by a tag made of the group's hash. Two ranks that share several groups still
 * match, as MPI delivers the messages of one tag between two ranks in order and both run their collectives in
 * one order.
 *
 * Receives point to point are not posted at once: they wait in a list until a probe finds their message. So the
 * wait for a message and its transfer can be told apart, and whoever waits for anything serves the whole list,
 * lest two ranks wait for each other's receives. */
#include <mpi.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/num.h"
#include "comm/ops.h"

#define BLOCK      ((size_t)1 << 30) /* MPI counts are ints: longer pieces are cut */
#define NAMED_MOST 8                 /* peers that a timeout names */

struct request {
    struct comm_request base;
    MPI_Request handle;
    bool matched;         /* sent, or a message was found for it */
    bool complete;        /* done, or failed */
    double arrived;       /* when the message was found */
    char *why;            /* it failed; to be said by wait() */
    struct request *next; /* in the list of receives without a message */
};

struct comm_batch {
    struct group *g;
    const char *what;
    int count, recvs; /* requests; the receives come first */
    MPI_Request *request;
    MPI_Status *status;
    int *peer;
    size_t *bytes; /* of each message */
    size_t total;
};

struct mpi {
    MPI_Comm comm;
    bool started;            /* MPI, by us */
    struct request *waiting; /* receives without a message, in order of posting */
    double spin_s, yield_s, nap_s;
};

static int failed(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(code, text, &length))
        length = 0;
    return error(STATUS_ENV, "%s: %.*s", what, length, text);
}

/* ---- waiting ---- */

/* Polls cost little at first, for latency, then make way for the ranks that share the processors. Naps grow
 * with the time waited, so that they never add more than a fraction to it. */
struct patience {
    const struct mpi *m;
    double start, spin_s, yield_s, limit;
};

static struct patience patience(const struct comm *c, size_t bytes)
{
    const struct mpi *m = c->state;
    double now = now_s(), moving = (double)bytes / 1e9; /* a nap would stall a transfer that needs both sides */
    return (struct patience){m, now, m->spin_s, m->yield_s + moving, c->timeout > 0 ? now + c->timeout : 0};
}

/* False when time is up. */
static bool still(const struct patience *p)
{
    double now = now_s(), waited = now - p->start;
    if (p->limit > 0 && now > p->limit)
        return false;
    if (waited < p->spin_s)
        return true;
    if (waited < p->yield_s) {
        sched_yield();
        return true;
    }
    double nap = waited / 8;
    nap = nap > p->m->nap_s ? p->m->nap_s : nap;
    nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    return true;
}

/* ---- opening and closing ---- */

/* Processors that the ranks of this host may use, all together: each may be bound to its own. */
static int count_cpus(MPI_Comm host, int *cpus)
{
    cpu_set_t mine, all;
    if (sched_getaffinity(0, sizeof mine, &mine)) {
        CPU_ZERO(&mine);
        for (int i = 0; i < sysconf(_SC_NPROCESSORS_ONLN) && i < CPU_SETSIZE; i++)
            CPU_SET(i, &mine);
    }
    int code = MPI_Allreduce(&mine, &all, sizeof all, MPI_BYTE, MPI_BOR, host);
    *cpus = code ? 1 : CPU_COUNT(&all);
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
    if (!code)
        code = count_cpus(host, &cpus);
    MPI_Comm_free(&host);
    /* A crowd of pollers that only yield keep each other from the one that has work. */
    double crowd = cpus < c->local_ranks ? (double)c->local_ranks / cpus : 1;
    m->spin_s = crowd > 1 ? 2e-6 : 20e-6;
    m->yield_s = 1e-3 / (crowd * crowd);
    m->nap_s = crowd > 10 ? 20e-6 * crowd : 200e-6;
    return code;
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
    /* MPI's own blocking calls, at the start and the end, should make way too when the host is crowded. */
    const char *local = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    if (local && atoi(local) > sysconf(_SC_NPROCESSORS_ONLN))
        setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code)
        return failed(code, "MPI_Init_thread");
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
        code = MPI_Comm_rank(m->comm, &c->rank);
    if (!code)
        code = MPI_Comm_size(m->comm, &c->size);
    if (!code)
        code = look_around(c);
    int *most = NULL, found = 0;
    if (!code)
        code = MPI_Comm_get_attr(m->comm, MPI_TAG_UB, &most, &found);
    if (code)
        return failed(code, "starting MPI");
    if (!found || *most < 2 * COMM_TAGS - 1)
        return error(STATUS_ENV, "this MPI has too few message tags: %d", found ? *most : 0);
    return 0;
}

static void close_mpi(struct comm *c)
{
    struct mpi *m = c->state;
    if (m->comm != MPI_COMM_NULL)
        MPI_Comm_free(&m->comm);
    if (m->started)
        MPI_Finalize();
    free(m);
}

static int open_mpi(struct comm *c)
{
    struct mpi *m = xcalloc(1, sizeof *m);
    m->comm = MPI_COMM_NULL;
    c->state = m;
    if (start_mpi(m) || join(c)) {
        free(m); /* the others cannot go on: the caller ends the process, and so the job */
        return -1;
    }
    return 0;
}

static void abort_mpi(struct comm *c, int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

/* ---- messages ---- */

/* Pieces as MPI wants them: one block of memory, or a type made of several. */
struct message {
    void *p;
    int count;
    MPI_Datatype type;
};

/* Cuts the pieces into blocks, those that touch joined first. at/length NULL only counts. */
static int cut(const struct comm_piece *list, int count, MPI_Aint *at, int *length)
{
    int blocks = 0;
    for (int i = 0, next; i < count; i = next) {
        char *p = list[i].p;
        size_t bytes = list[i].bytes;
        for (next = i + 1; next < count && (char *)list[next].p == p + bytes; next++)
            bytes += list[next].bytes;
        for (size_t off = 0; off < bytes; off += BLOCK, blocks++) {
            if (at) {
                MPI_Get_address(p + off, &at[blocks]);
                length[blocks] = (int)(bytes - off < BLOCK ? bytes - off : BLOCK);
            }
        }
    }
    return blocks;
}

static int describe(const struct comm_piece *list, int count, struct message *m)
{
    int blocks = cut(list, count, NULL, NULL);
    if (blocks <= 1) {
        size_t bytes = 0;
        for (int i = 0; i < count; i++)
            bytes += list[i].bytes;
        *m = (struct message){list[0].p, (int)bytes, MPI_BYTE};
        return 0;
    }
    MPI_Aint *at = xmalloc((size_t)blocks * sizeof *at);
    int *length = xmalloc((size_t)blocks * sizeof *length);
    cut(list, count, at, length);
    *m = (struct message){MPI_BOTTOM, 1, MPI_DATATYPE_NULL};
    int code = MPI_Type_create_hindexed(blocks, length, at, MPI_BYTE, &m->type);
    if (!code)
        code = MPI_Type_commit(&m->type);
    free(at);
    free(length);
    return code;
}

/* Messages under way keep what they need of the type. */
static void forget(struct message *m)
{
    if (m->type != MPI_BYTE && m->type != MPI_DATATYPE_NULL)
        MPI_Type_free(&m->type);
}

static int check_size(const MPI_Status *status, size_t expect, const char *what, const struct group *g,
                      int peer)
{
    MPI_Count got = 0;
    MPI_Get_elements_x(status, MPI_BYTE, &got);
    if (got >= 0 && (size_t)got == expect)
        return 0;
    return error(STATUS_ENV, "%s in group '%s': peer %d (rank %d) sent %lld bytes; %zu were expected", what,
                 g->name, peer, g->ranks[peer], (long long)got, expect);
}

/* Fails and names the peers that did not answer. */
static int no_answer(const struct group *g, const char *what, const int *peer, int count)
{
    char names[NAMED_MOST * 40 + 40];
    size_t at = 0;
    for (int i = 0; i < count && i < NAMED_MOST; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s %d (rank %d)", i ? "," : "", peer[i],
                               g->ranks[peer[i]]);
    if (count > NAMED_MOST)
        snprintf(names + at, sizeof names - at, " and %d more", count - NAMED_MOST);
    return error(STATUS_ENV, "%s in group '%s': no answer within %g s from peer%s%s", what, g->name,
                 g->c->timeout, count > 1 ? "s" : "", names);
}

/* ---- point to point ---- */

static const char *name_of(const struct comm_request *r, char buf[static 48])
{
    snprintf(buf, 48, "%s (tag %d)", r->receive ? "receive" : "send", r->tag);
    return buf;
}

/* The request failed; the error waits for wait(). */
static void keep_error(struct request *r)
{
    r->complete = true;
    r->why = xstrdup(error_text());
}

/* A message of another size is left alone: Open MPI 4.1 writes past the end before it reports that. */
static int start_receive(struct request *r, MPI_Message *message, const MPI_Status *status)
{
    struct comm_request *b = &r->base;
    struct message in;
    char name[48];
    if (check_size(status, b->bytes, name_of(b, name), b->g, b->peer))
        return -1;
    int code = describe(&(struct comm_piece){0, b->host, b->bytes}, 1, &in);
    if (!code) {
        code = MPI_Imrecv(in.p, in.count, in.type, message, &r->handle);
        forget(&in);
    }
    return code ? failed(code, name_of(b, name)) : 0;
}

static bool same_source(const struct comm_request *a, const struct comm_request *b)
{
    return a->tag == b->tag && a->g->ranks[a->peer] == b->g->ranks[b->peer];
}

/* Gives each receive that waits its message, if that is there. */
static void serve(struct comm *c)
{
    struct mpi *m = c->state;
    for (struct request **at = &m->waiting; *at;) {
        const struct comm_request *b = &(*at)->base;
        int there = 0;
        MPI_Message message;
        MPI_Status status;
        int code = MPI_Improbe(b->g->ranks[b->peer], b->tag, m->comm, &there, &message, &status);
        if (!code && !there) {
            at = &(*at)->next;
            continue;
        }
        /* An earlier receive of the same source and tag, looked at a moment too soon, comes first. */
        for (at = &m->waiting; !same_source(&(*at)->base, b);)
            at = &(*at)->next;
        struct request *r = *at;
        *at = r->next;
        r->matched = true;
        r->arrived = now_s();
        if (code ? failed(code, "looking for a message") : start_receive(r, &message, &status))
            keep_error(r);
    }
}

static struct comm_request *post(struct group *g, bool receive, int peer, int tag, void *p, size_t bytes)
{
    struct mpi *m = g->c->state;
    struct request *r = xcalloc(1, sizeof *r);
    r->base =
        (struct comm_request){.g = g, .receive = receive, .peer = peer, .tag = tag, .bytes = bytes, .host = p};
    r->handle = MPI_REQUEST_NULL;
    if (receive) {
        struct request **at = &m->waiting;
        while (*at)
            at = &(*at)->next;
        *at = r;
        return &r->base;
    }
    r->matched = true;
    struct message out;
    int code = describe(&(struct comm_piece){0, p, bytes}, 1, &out);
    if (!code) {
        code = MPI_Isend(out.p, out.count, out.type, g->ranks[peer], tag, m->comm, &r->handle);
        forget(&out);
    }
    if (!code)
        return &r->base;
    failed(code, "send");
    free(r);
    return NULL;
}

/* Moves the request on as far as it goes now. */
static void move(struct request *r)
{
    struct comm_request *b = &r->base;
    char name[48];
    serve(b->g->c);
    if (!r->matched || r->complete)
        return;
    int flag = 0;
    int code = MPI_Test(&r->handle, &flag, MPI_STATUS_IGNORE);
    if (!code && !flag)
        return;
    r->complete = true;
    if (code) {
        failed(code, name_of(b, name));
        error_prefix("group '%s', peer %d (rank %d)", b->g->name, b->peer, b->g->ranks[b->peer]);
        keep_error(r);
    }
}

static bool done(struct comm_request *base)
{
    struct request *r = (struct request *)base;
    move(r);
    return r->complete;
}

/* The caller is about to free a request that found no message. */
static void unlist(struct mpi *m, const struct request *r)
{
    for (struct request **at = &m->waiting; *at; at = &(*at)->next) {
        if (*at == r) {
            *at = r->next;
            return;
        }
    }
}

static int wait_one(struct comm_request *base, double *idle_s)
{
    struct request *r = (struct request *)base;
    struct comm *c = base->g->c;
    double start = now_s();
    struct patience p = patience(c, 0);
    bool moving = false, late = false;
    for (move(r); !r->complete && !late; move(r)) {
        if (r->matched && !moving) {
            moving = true;
            p = patience(c, base->bytes);
        }
        late = !still(&p);
    }
    if (idle_s && base->receive && r->arrived > start)
        *idle_s += r->arrived - start;
    char name[48];
    if (!r->complete) {
        unlist(c->state, r);
        return no_answer(base->g, name_of(base, name), &base->peer, 1);
    }
    if (!r->why)
        return 0;
    error(STATUS_ENV, "%s", r->why);
    free(r->why);
    return -1;
}

/* ---- collectives ---- */

/* Pieces sorted by peer, each peer's in list order: peer p's are [first[p], first[p+1]). */
static struct comm_piece *by_peer(const struct comm_piece *list, int count, int peers, int *first)
{
    struct comm_piece *sorted = xmalloc((size_t)count * sizeof *sorted + 1);
    memset(first, 0, ((size_t)peers + 1) * sizeof *first);
    for (int i = 0; i < count; i++)
        first[list[i].peer + 1]++;
    for (int p = 0; p < peers; p++)
        first[p + 1] += first[p];
    for (int i = 0; i < count; i++)
        sorted[first[list[i].peer]++] = list[i];
    memmove(first + 1, first, (size_t)peers * sizeof *first);
    first[0] = 0;
    return sorted;
}

static struct comm_batch *batch_new(struct group *g, const char *what)
{
    size_t most = 2 * (size_t)g->size;
    struct comm_batch *b = xcalloc(1, sizeof *b);
    *b = (struct comm_batch){.g = g, .what = what};
    b->request = xmalloc(most * sizeof *b->request);
    b->status = xmalloc(most * sizeof *b->status);
    b->peer = xmalloc(most * sizeof *b->peer);
    b->bytes = xmalloc(most * sizeof *b->bytes);
    return b;
}

static void batch_free(struct comm_batch *b)
{
    free(b->request);
    free(b->status);
    free(b->peer);
    free(b->bytes);
    free(b);
}

static int post_message(struct comm_batch *b, bool receive, int peer, const struct comm_piece *list, int count)
{
    const struct mpi *m = b->g->c->state;
    int rank = b->g->ranks[peer], tag = COMM_TAGS + (int)(b->g->hash % COMM_TAGS), n = b->count;
    struct message s;
    b->peer[n] = peer;
    b->bytes[n] = 0;
    for (int i = 0; i < count; i++)
        b->bytes[n] += list[i].bytes;
    int code = describe(list, count, &s);
    if (!code && receive)
        code = MPI_Irecv(s.p, s.count, s.type, rank, tag, m->comm, &b->request[n]);
    else if (!code)
        code = MPI_Isend(s.p, s.count, s.type, rank, tag, m->comm, &b->request[n]);
    forget(&s);
    if (code)
        return failed(code, b->what);
    b->total += b->bytes[n];
    b->count++;
    b->recvs += receive;
    return 0;
}

/* One side of a batch. Peers are taken in turn from this one's neighbour on, so that they do not all start with
 * the same. */
static int post_side(struct comm_batch *b, bool receive, const struct comm_piece *list, int count)
{
    int n = b->g->size, me = b->g->me, rc = 0;
    int *first = xmalloc(((size_t)n + 1) * sizeof *first);
    struct comm_piece *sorted = by_peer(list, count, n, first);
    for (int d = 1; d < n && rc == 0; d++) {
        int p = (receive ? me - d + n : me + d) % n;
        if (first[p + 1] > first[p])
            rc = post_message(b, receive, p, sorted + first[p], first[p + 1] - first[p]);
    }
    free(sorted);
    free(first);
    return rc;
}

static struct comm_batch *post_all(struct group *g, const char *what, const struct comm_piece *send, int sends,
                                   const struct comm_piece *recv, int recvs)
{
    struct comm_batch *b = batch_new(g, what);
    if (post_side(b, true, recv, recvs) == 0 && post_side(b, false, send, sends) == 0)
        return b;
    batch_free(b);
    return NULL;
}

/* The peers of unfinished messages, each once. */
static int awaited(struct comm_batch *b)
{
    int n = 0, *peer = xmalloc((size_t)b->count * sizeof *peer);
    bool *seen = xcalloc((size_t)b->g->size, sizeof *seen);
    for (int i = 0; i < b->count; i++) {
        int flag = 0;
        if (MPI_Test(&b->request[i], &flag, MPI_STATUS_IGNORE) == MPI_SUCCESS && flag)
            continue;
        if (!seen[b->peer[i]])
            peer[n++] = b->peer[i];
        seen[b->peer[i]] = true;
    }
    int rc = no_answer(b->g, b->what, peer, n);
    free(seen);
    free(peer);
    return rc;
}

static int batch_failed(struct comm_batch *b, int code)
{
    if (code != MPI_ERR_IN_STATUS)
        return failed(code, b->what);
    for (int i = 0; i < b->count; i++) {
        int e = b->status[i].MPI_ERROR, p = b->peer[i];
        if (e == MPI_SUCCESS || e == MPI_ERR_PENDING)
            continue;
        failed(e, b->what);
        return error_prefix("group '%s', peer %d (rank %d)", b->g->name, p, b->g->ranks[p]);
    }
    return failed(code, b->what);
}

static int finish(struct comm_batch *b)
{
    struct comm *c = b->g->c;
    struct patience p = patience(c, b->total);
    for (int flag = 0;;) {
        int code = MPI_Testall(b->count, b->request, &flag, b->status);
        if (code)
            return batch_failed(b, code);
        if (flag)
            break;
        serve(c);
        if (!still(&p))
            return awaited(b);
    }
    for (int i = 0; i < b->recvs; i++) {
        if (check_size(&b->status[i], b->bytes[i], b->what, b->g, b->peer[i]))
            return -1;
    }
    return 0;
}

static int wait_all(struct comm_batch *b)
{
    int rc = finish(b);
    batch_free(b);
    return rc;
}

const struct comm_ops comm_mpi = {
    .kind = "mpi",
    .open = open_mpi,
    .close = close_mpi,
    .abort = abort_mpi,
    .post_all = post_all,
    .wait_all = wait_all,
    .post = post,
    .done = done,
    .wait = wait_one,
};

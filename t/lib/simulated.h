/* SPDX-License-Identifier: MIT */
/* Thousands of ranks in one process: a kind of communication whose messages lie in memory, and ranks that take
 * turns, each on a stack of its own. Counts what each sends and receives. */
#ifndef T_SIMULATED_H
#define T_SIMULATED_H

#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/ops.h"

enum { SIM_STACK = 128 << 10, SIM_GUARD = 4096 };

struct sim_message {
    int from;
    uint32_t tag;
    size_t bytes;
    struct sim_message *next;
    char data[];
};

struct sim_rank {
    struct comm comm; /* first: the kind finds its rank by it */
    struct group world;
    struct sim_message *inbox;
    ucontext_t at;
    bool ready, done;
    char *error; /* what error() has, between its turns */
    enum status status;
    const char *waits_in;
    int waits_for;
    int64_t messages; /* sent and received; whoever measures sets it to 0 */
};

/* The ranks of a job. Those that can go on are in a ring: the next turn is of the first, or of the last. */
struct sim {
    int n, first, count;
    int *ready, *all;
    bool last_first;
    struct sim_rank *ranks;
    char *stacks;
    ucontext_t home;
    void (*run)(struct sim_rank *r, void *job);
    void *job;
};
static struct sim sim;

struct sim_batch {
    struct comm_batch head; /* first */
    struct group *g;
    const char *what;
    struct comm_piece *recv;
    int recvs, done;
    bool device;
};

static inline void sim_wake(struct sim_rank *r)
{
    if (r->ready)
        return;
    r->ready = true;
    sim.ready[(sim.first + sim.count++) % sim.n] = r->comm.rank;
}

/* Lets others have their turn. */
static inline void sim_block(struct sim_rank *r)
{
    r->error = *error_text() ? xstrdup(error_text()) : NULL;
    r->status = error_status();
    swapcontext(&r->at, &sim.home);
    error_clear();
    if (r->status)
        error(r->status, "%s", r->error ? r->error : "");
    free(r->error);
}

/* Device operations and the host's do not match each other. */
static inline uint32_t sim_tag(const struct group *g, bool device)
{
    return g->hash * 2 + device;
}

static inline struct comm_batch *sim_post_all(struct group *g, const char *what, const struct comm_piece *send,
                                              int sends, const struct comm_piece *recv, int recvs, bool device)
{
    for (int i = 0; i < sends; i++) {
        struct sim_rank *to = &sim.ranks[g->ranks[send[i].peer]];
        struct sim_message *m = xmalloc(sizeof *m + send[i].bytes), **at = &to->inbox;
        *m = (struct sim_message){.from = g->c->rank, .tag = sim_tag(g, device), .bytes = send[i].bytes};
        memcpy(m->data, send[i].p, m->bytes);
        while (*at)
            at = &(*at)->next;
        *at = m;
        ((struct sim_rank *)g->c)->messages++;
        sim_wake(to);
    }
    struct sim_batch *b = xmalloc(sizeof *b);
    *b = (struct sim_batch){.g = g, .what = what, .recvs = recvs, .device = device};
    b->recv = xmalloc((size_t)recvs * sizeof *recv + 1);
    for (int i = 0; i < recvs; i++)
        b->recv[i] = recv[i];
    return &b->head;
}

static inline struct sim_message *sim_take(struct sim_rank *r, int from, uint32_t tag)
{
    for (struct sim_message **at = &r->inbox; *at; at = &(*at)->next) {
        struct sim_message *m = *at;
        if (m->from == from && m->tag == tag) {
            *at = m->next;
            return m;
        }
    }
    return NULL;
}

static inline int sim_test_all(struct comm_batch *head)
{
    struct sim_batch *b = (struct sim_batch *)head;
    struct sim_rank *r = (struct sim_rank *)b->g->c;
    for (; b->done < b->recvs; b->done++) {
        const struct comm_piece *to = &b->recv[b->done];
        struct sim_message *m = sim_take(r, b->g->ranks[to->peer], sim_tag(b->g, b->device));
        if (!m)
            return 0;
        int rc = m->bytes == to->bytes
                     ? 0
                     : error(STATUS_ENV, "%s: %zu bytes from rank %d", b->what, m->bytes, m->from);
        if (rc == 0)
            memcpy(to->p, m->data, m->bytes);
        r->messages++;
        free(m);
        TRY(rc);
    }
    return 1;
}

static inline int sim_await_all(struct comm_batch *head)
{
    struct sim_batch *b = (struct sim_batch *)head;
    struct sim_rank *r = (struct sim_rank *)b->g->c;
    r->waits_in = b->what;
    r->waits_for = b->g->ranks[b->recv[b->done].peer];
    sim_block(r);
    return 0;
}

static inline void sim_free_all(struct comm_batch *head)
{
    free(((struct sim_batch *)head)->recv);
    free(head);
}

static const struct comm_ops sim_ops = {.kind = "simulated",
                                        .post_all = sim_post_all,
                                        .test_all = sim_test_all,
                                        .await_all = sim_await_all,
                                        .free_all = sim_free_all};

static inline void sim_start(int rank)
{
    struct sim_rank *r = &sim.ranks[rank];
    sim.run(r, sim.job);
    r->done = true;
}

static inline void sim_make_rank(int rank, int per_host)
{
    struct sim_rank *r = &sim.ranks[rank];
    int first = rank / per_host * per_host, here = sim.n - first < per_host ? sim.n - first : per_host;
    r->comm = (struct comm){.ops = &sim_ops,
                            .rank = rank,
                            .size = sim.n,
                            .local_rank = rank - first,
                            .local_ranks = here,
                            .local_list = sim.all + first,
                            .world = &r->world};
    r->world = (struct group){.c = &r->comm, .name = "world", .ranks = sim.all, .size = sim.n, .me = rank};
    getcontext(&r->at);
    char *stack = sim.stacks + (size_t)rank * SIM_STACK;
    mprotect(stack, SIM_GUARD, PROT_NONE);
    r->at.uc_stack.ss_sp = stack + SIM_GUARD;
    r->at.uc_stack.ss_size = SIM_STACK - SIM_GUARD;
    r->at.uc_link = &sim.home;
    makecontext(&r->at, (void (*)(void))sim_start, 1, rank);
    sim_wake(r);
}

/* Runs `run` on n ranks, per_host of them on a host, to the end. Returns whether all came to it. */
static inline bool simulate(int n, int per_host, bool last_first, void (*run)(struct sim_rank *, void *),
                            void *job)
{
    sim = (struct sim){.n = n, .last_first = last_first, .run = run, .job = job};
    sim.ranks = xcalloc((size_t)n, sizeof *sim.ranks);
    sim.ready = xcalloc((size_t)n, sizeof *sim.ready);
    sim.all = xcalloc((size_t)n, sizeof *sim.all);
    sim.stacks = mmap(NULL, (size_t)n * SIM_STACK, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (int i = 0; i < n; i++)
        sim.all[i] = i;
    for (int i = 0; i < n; i++)
        sim_make_rank(i, per_host);
    while (sim.count) {
        int at = last_first ? (sim.first + sim.count - 1) % n : sim.first;
        sim.first = last_first ? sim.first : (sim.first + 1) % n;
        sim.count--;
        struct sim_rank *r = &sim.ranks[sim.ready[at]];
        r->ready = false;
        if (!r->done)
            swapcontext(&sim.home, &r->at);
    }
    int stuck = 0;
    for (int i = 0; i < n; i++) {
        const struct sim_rank *r = &sim.ranks[i];
        if (!r->done && stuck++ < 5)
            printf("# rank %d waits for rank %d in %s\n", i, r->waits_for, r->waits_in);
        if (r->inbox && stuck++ < 5)
            printf("# rank %d was sent what it never asked for\n", i);
    }
    munmap(sim.stacks, (size_t)n * SIM_STACK);
    free(sim.ranks);
    free(sim.ready);
    free(sim.all);
    return stuck == 0;
}

#endif

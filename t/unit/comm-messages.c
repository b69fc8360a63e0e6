/* SPDX-License-Identifier: MIT */
/* Messages from one rank to another, and what is said when they do not arrive. */
#include <math.h>
#include <time.h>

#include "base/memory.h"
#include "base/process.h"
#include "lib/comm.h"

enum { TAGS = 7 };

static size_t tag_bytes(int tag)
{
    static const size_t bytes[TAGS] = {0, 1, 9000, 65536, 3, 1000003, 12};
    return bytes[tag];
}

/* Every peer, oneself too; tags received in another order; two messages of one tag in order. Waits for sends
 * first. */
static bool points(struct group *g)
{
    int n = group_size(g), me = group_rank(g);
    for (int shift = 0; shift < (n < 5 ? n : 5); shift++) {
        int to = (me + shift) % n, from = (me - shift + n) % n;
        struct comm_request *in[TAGS + 2], *out[TAGS + 2];
        void *from_p[TAGS + 2], *to_p[TAGS + 2];
        for (int t = TAGS + 1; t >= 0; t--) {
            int tag = t < TAGS ? t : COMM_TAGS - 1;
            from_p[t] = xmalloc(t < TAGS ? tag_bytes(t) + 1 : 5);
            in[t] = host_recv(g, from, tag, from_p[t], t < TAGS ? tag_bytes(t) : 5);
            OK(in[t]);
        }
        for (int t = 0; t < TAGS + 2; t++) {
            int tag = t < TAGS ? t : COMM_TAGS - 1;
            size_t bytes = t < TAGS ? tag_bytes(t) : 5;
            to_p[t] = host_fill(me, t, bytes);
            out[t] = host_send(g, to, tag, to_p[t], bytes);
            OK(out[t]);
        }
        for (int t = 0; t < TAGS + 2; t++)
            OK(comm_wait(out[t], NULL) == 0);
        for (int k = 0; k < TAGS + 2; k++) {
            int t = (k * 4 + 1) % (TAGS + 2);
            OK(comm_wait(in[t], NULL) == 0);
        }
        for (int t = 0; t < TAGS + 2; t++) {
            size_t bytes = t < TAGS ? tag_bytes(t) : 5;
            int sent = t < TAGS ? t : t == TAGS ? TAGS + 1 : TAGS; /* received in reverse */
            OK(host_check(from_p[t], from, sent, bytes));
            free(from_p[t]);
            free(to_p[t]);
        }
    }
    OK(comm_wait(NULL, NULL) == 0);
    return true;
}

/* A run of peers. */
struct run {
    int64_t first, count;
    uint64_t hash;
    bool broken;
};

static void append(void *into, const void *from, size_t bytes)
{
    struct run *a = into;
    const struct run *b = from;
    a->broken = a->broken || b->broken || bytes != sizeof *a || a->first + a->count != b->first;
    a->hash = a->hash * 31 + b->hash * 17 + (uint64_t)b->count; /* not associative: shows the tree */
    a->count += b->count;
}

static bool reductions(struct group *g)
{
    int n = group_size(g), me = group_rank(g);
    struct run r = {.first = me, .count = 1, .hash = (uint64_t)me + 7}, again = r, all = r;
    OK(host_all_reduce(g, &all, sizeof all, append) == 0);
    OK(!all.broken && all.first == 0 && all.count == n);
    OK(host_reduce(g, &r, sizeof r, append) == 0 && host_reduce(g, &again, sizeof again, append) == 0);
    if (me == 0)
        OK(!r.broken && r.count == n && r.hash == all.hash && again.hash == all.hash);
    uint64_t first = all.hash;
    OK(host_broadcast(g, 0, &first, sizeof first) == 0 && first == all.hash);
    OK(host_reduce(g, NULL, 0, append) == 0 && host_all_reduce(g, NULL, 0, append) == 0);
    return true;
}

static bool hosts(struct group *g)
{
    static const size_t sizes[] = {0, 1, 12, 40000};
    int n = group_size(g), me = group_rank(g);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        size_t bytes = sizes[k];
        unsigned char *mine = xmalloc(bytes + 1), *all = xmalloc(bytes * (size_t)n + 1);
        for (size_t i = 0; i < bytes; i++)
            mine[i] = pattern(me, 5, i);
        OK(host_gather(g, mine, bytes, me == 0 ? all : NULL) == 0);
        for (size_t i = 0; i < bytes * (size_t)n && me == 0; i++)
            OK(all[i] == pattern((int)(i / bytes), 5, i % bytes));
        for (int root = 0; root < n; root++) {
            for (size_t i = 0; i < bytes; i++)
                mine[i] = pattern(me, 6, i);
            OK(host_broadcast(g, root, mine, bytes) == 0);
            for (size_t i = 0; i < bytes; i++)
                OK(mine[i] == pattern(root, 6, i));
        }
        free(mine);
        free(all);
    }
    int64_t v = -100 - me;
    OK(host_max(g, &v) == 0 && v == -100);
    v = me == n - 1 ? INT64_MAX : INT64_MIN;
    OK(host_max(g, &v) == 0 && v == INT64_MAX);
    int next = (me + 1) % n, got = -1;
    struct comm_request *s = host_send(g, next, 9, &me, sizeof me);
    struct comm_request *r = host_recv(g, (me + n - 1) % n, 9, &got, sizeof got);
    OK(s && r && comm_wait(r, NULL) == 0 && comm_wait(s, NULL) == 0);
    OK(got == (me + n - 1) % n);
    return true;
}

static bool large(struct group *g)
{
    int n = group_size(g), me = group_rank(g), to = (me + 1) % n, from = (me + n - 1) % n;
    size_t bytes = n <= 4 ? (64 << 20) + 5 : 4 << 20;
    void *out = fill(me, 1, bytes), *in = be->alloc(bytes);
    char *sent = host_fill(me, 1, bytes), *got = xmalloc(bytes);
    struct comm_request *s = host_send(g, to, 0, sent, bytes), *r = host_recv(g, from, 0, got, bytes);
    OK(s && r && comm_wait(s, NULL) == 0 && comm_wait(r, NULL) == 0);
    OK(host_check(got, from, 1, bytes));
    free(sent);
    free(got);
    OK(exchange(g, stream, &(struct comm_piece){to, out, bytes}, 1, &(struct comm_piece){from, in, bytes}, 1) ==
       0);
    OK(check(in, 0, from, 1, bytes));
    be->free(in, bytes);
    be->free(out, bytes);
    return true;
}

/* Device memory, in streams of its own, one a direction: messages of two ranks match in order. */
static bool streams(struct group *g)
{
    enum { MESSAGES = 6 };
    int n = group_size(g), me = group_rank(g), to = (me + 1) % n, from = (me + n - 1) % n;
    struct stream *out = be->stream_new(), *in = be->stream_new();
    struct event *there = be->event_new(), *came = be->event_new();
    void *sent[MESSAGES], *got[MESSAGES];
    struct comm_times times[MESSAGES];
    double start = now_s();
    for (int k = 0; k < MESSAGES && n > 1; k++) {
        size_t bytes = k == 2 ? 0 : tag_bytes(k);
        sent[k] = fill(me, k, bytes);
        got[k] = be->alloc(bytes);
        be->event_record(there, stream);
        be->event_wait(out, there);
        be->event_wait(in, there);
        /* who sends first is even: no two wait for each other, whatever waits for its partner */
        for (int half = 0; half < 2; half++)
            OK((me % 2 == half ? comm_send(g, out, to, sent[k], bytes)
                               : comm_recv(g, in, from, got[k], bytes, &times[k])) == 0);
    }
    be->event_record(came, in);
    be->event_wait(stream, came);
    be->event_record(there, out);
    be->event_wait(stream, there);
    for (int k = 0; k < MESSAGES && n > 1; k++) {
        size_t bytes = k == 2 ? 0 : tag_bytes(k);
        OK(check(got[k], 0, from, k, bytes));
        OK(bytes == 0 || (times[k].arrived_s >= start && times[k].done_s >= times[k].arrived_s &&
                          times[k].done_s <= now_s()));
        be->free(got[k], bytes);
        be->free(sent[k], bytes);
    }
    be->stream_free(out);
    be->stream_free(in);
    be->event_free(there);
    be->event_free(came);
    return true;
}

static bool all_on(struct group *g)
{
    return points(g) && streams(g) && hosts(g) && reductions(g);
}

static bool strided(struct group *world)
{
    return on_strided(all_on);
}

static bool alone(struct group *world)
{
    return on_alone(all_on);
}

static void nap(double s)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)(fmod(s, 1) * 1e9)}, NULL);
}

/* The wait for a message counts as idle, its transfer does not. */
static bool idle(struct group *world)
{
    double before = 0, after = 0;
    char sent = 1;
    size_t bytes = 8 << 20;
    void *p = xcalloc(bytes, 1);
    if (rank == 0 && size > 1) {
        struct comm_request *r = host_recv(world, 1, 1, p, bytes);
        OK(comm_wait(host_send(world, 1, 0, &sent, 1), NULL) == 0);
        OK(comm_wait(r, &before) == 0);
        r = host_recv(world, 1, 2, p, bytes);
        /* queued after the other: however busy the machine is, that one is on its way by now */
        OK(comm_wait(host_recv(world, 1, 3, &sent, 1), NULL) == 0);
        OK(comm_wait(r, &after) == 0);
        OK(before > 0.05 && after < 0.1);
    } else if (rank == 1) {
        OK(comm_wait(host_recv(world, 0, 0, &sent, 1), NULL) == 0); /* the other is about to wait */
        nap(0.3);
        OK(comm_wait(host_send(world, 0, 1, p, bytes), NULL) == 0);
        struct comm_request *r = host_send(world, 0, 2, p, bytes);
        OK(comm_wait(host_send(world, 0, 3, &sent, 1), NULL) == 0);
        OK(comm_wait(r, &after) == 0 && after == 0);
    }
    free(p);
    return true;
}

static bool timeouts(struct group *world)
{
    if (size == 1)
        return true;
    int next = (rank + 1) % size;
    char expect[128];
    void *p = be->alloc(8), *q = xmalloc(8);
    snprintf(expect, sizeof expect, "(tag 77) in group 'world': no answer within 1 s from peer %d (rank %d)",
             next, next);
    comm_set_timeout(c, 1);
    struct comm_request *r = host_recv(world, next, 77, q, 8);
    OK(!comm_done(r));
    double start = now_s();
    OK(comm_wait(r, NULL) == -1 && error_status() == STATUS_ENV);
    OK(now_s() - start > 0.9 && now_s() - start < 10);
    OK(strstr(error_text(), expect));
    comm_set_timeout(c, 600);
    int64_t barrier = 0;
    OK(host_max(world, &barrier) == 0); /* still usable here: nothing was under way */
    comm_set_timeout(c, 1);
    struct group *g = comm_group(c, "silent", (int[]){0, 1}, rank < 2 ? 2 : 0);
    if (rank == 0) {
        OK(exchange(g, stream, NULL, 0, &(struct comm_piece){1, p, 8}, 1) == 0 && be->sync(stream) == -1);
        OK(strstr(error_text(), "exchange in group 'silent': no answer within 1 s from peer 1 (rank 1)"));
        OK(host_max(g, &barrier) == -1);
        OK(strstr(error_text(), "host_max in group 'silent': no answer within 1 s from peer 1 (rank 1)"));
    }
    comm_set_timeout(c, 600);
    return true; /* p and q may still be written to */
}

static bool wrong_sizes(struct group *world)
{
    if (size == 1)
        return true;
    char *p = xcalloc(200000, 1), *q = xcalloc(200000, 1);
    static const size_t sent[] = {8, 100000, 12, 200000}, asked[] = {12, 200000, 8, 100000};
    for (int i = 0; i < 4; i++) {
        if (rank == 0) {
            struct comm_request *s = host_send(world, 1, 5, p, sent[i]);
            OK(s);
            comm_set_timeout(c, 0.2);
            comm_wait(s, NULL); /* long ones are never taken */
            comm_set_timeout(c, 600);
        } else if (rank == 1) {
            OK(comm_wait(host_recv(world, 0, 5, q, asked[i]), NULL) == -1 && error_status() == STATUS_ENV);
            OK(strstr(error_text(), "peer 0 (rank 0)"));
        }
    }
    return true; /* p may still be read */
}

/* Messages of a collective are measured before they move: a short buffer keeps what lies behind it. Long ones
 * are fetched from the sender's memory, short ones are not; rank 0 sends, the others expect another size. */
static bool wrong_batches(struct group *world)
{
    static const size_t sent[] = {3000000, 200000, 100000, 64, 12}, asked[] = {100000, 100000, 200000, 12, 64};
    enum { ROOM = 3000000 };
    if (size == 1)
        return true;
    for (int i = 0; i < 5; i++) {
        char name[16];
        snprintf(name, sizeof name, "sizes-%d", i);
        struct group *g = comm_group(c, name, (int[]){0, 1}, rank < 2 ? 2 : 0);
        unsigned char *p = xmalloc(ROOM);
        memset(p, rank ? 0xC5 : 0x11, ROOM);
        if (rank == 0) {
            comm_set_timeout(c, 0.3);
            host_broadcast(g, 0, p, sent[i]); /* long ones are never taken */
            comm_set_timeout(c, 600);
        } else if (rank == 1) {
            char expect[128];
            snprintf(expect, sizeof expect, "peer 0 (rank 0) sent %zu bytes; %zu were expected", sent[i],
                     asked[i]);
            OK(host_broadcast(g, 0, p, asked[i]) == -1 && error_status() == STATUS_ENV);
            OK(strstr(error_text(), expect));
            for (size_t k = asked[i]; k < ROOM; k++)
                OK(p[k] == 0xC5);
            free(p); /* rank 0's may still be read */
        }
        if (rank < 2)
            comm_group_free(g);
    }
    return true;
}

static void tests(void)
{
    test("point to point", points);
    test("host memory", hosts);
    test("reductions", reductions);
    test("large messages", large);
    test("streams", streams);
    test("strided groups", strided);
    test("groups of one", alone);
    test("idle time", idle);
    if (strcmp(comm_kind(c), "strict") == 0)
        test("wrong sizes", wrong_sizes), test("wrong sizes in collectives", wrong_batches);
}

int main(void)
{
    test_all(tests, timeouts, "timeouts");
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* Communication. Without a launcher: the kind `self`. Under `mpirun -n N`: everything for N ranks.
 * `comm bench` measures instead; `comm abort STATUS` ends the job from its last rank. */
#include "comm/comm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/bf16.h"
#include "base/error.h"
#include "base/num.h"
#include "comm/collective.h"

static struct comm *c;
static const struct backend *be;
static struct stream *stream;
static int rank, size, tests;
static int64_t maps; /* open ones */

#define OK(cond)                                                                                               \
    do {                                                                                                       \
        if (!(cond)) {                                                                                         \
            printf("# rank %d: %s:%d: %s: %s\n", rank, __FILE__, __LINE__, #cond, error_text());               \
            return false;                                                                                      \
        }                                                                                                      \
    } while (0)

/* ---- a backend whose host memory is another one's copy, as a GPU's ---- */

static struct backend staged;

static void *stage_map(struct stream *s, void *p, size_t bytes, enum host_access access)
{
    void *host = xmalloc(bytes);
    memset(host, 0xA5, bytes);
    if (access & HOST_READ)
        be->download(s, host, p, bytes);
    maps++;
    return host;
}

static void stage_unmap(struct stream *s, void *p, size_t bytes, enum host_access access, void *host)
{
    if (access & HOST_WRITE)
        be->upload(s, p, host, bytes);
    free(host);
    maps--;
}

/* ---- contents that tell where they come from ---- */

static unsigned char pattern(int from, int to, size_t i)
{
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)(from * 1009 + to) * 0xD1B54A32D192ED03u;
    return (unsigned char)(x >> 56 ^ x >> 23);
}

static void *fill(int from, int to, size_t bytes)
{
    unsigned char *host = xmalloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        host[i] = pattern(from, to, i);
    void *p = be->alloc(bytes);
    be->upload(stream, p, host, bytes);
    free(host);
    return p;
}

static bool check(const void *p, size_t skip, int from, int to, size_t bytes)
{
    unsigned char *host = xmalloc(bytes + 1);
    be->download(stream, host, (const char *)p + skip, bytes);
    size_t bad = 0;
    while (bad < bytes && host[bad] == pattern(from, to, bad))
        bad++;
    free(host);
    return bad == bytes;
}

/* Sums to small multiples of 1/8, so that the order does not matter to the oracle; or not (`rough`). */
static float value(int peer, int64_t i, bool rough)
{
    int v = (int)((i * 37 + peer * 101) % 61) - 30;
    return rough ? (float)v * 0.1f + (float)peer * 1e3f * (float)(i % 3) : (float)v * 0.125f;
}

static float to_bf16(float f)
{
    return bf16_to_f32(f32_to_bf16(f));
}

static void *upload_values(int peer, int64_t count, enum type type, bool rough)
{
    char *host = xmalloc((size_t)count * 4 + 1);
    for (int64_t i = 0; i < count; i++) {
        float f = value(peer, i, rough);
        if (type == BF16) {
            f = to_bf16(f);
            memcpy(host + 2 * i, (char *)&f + 2, 2);
        } else {
            memcpy(host + 4 * i, &f, 4);
        }
    }
    size_t bytes = (size_t)count * type_bytes(type);
    void *p = be->alloc(bytes);
    be->upload(stream, p, host, bytes);
    free(host);
    return p;
}

static float element(const char *host, enum type type, int64_t i)
{
    float f = 0;
    if (type == F32)
        memcpy(&f, host + 4 * i, 4);
    else
        memcpy((char *)&f + 2, host + 2 * i, 2);
    return f;
}

static float expected_sum(int peers, int64_t i, enum type type, bool rough)
{
    float sum = 0;
    for (int p = 0; p < peers; p++) {
        float f = value(p, i, rough);
        sum += type == BF16 ? to_bf16(f) : f;
    }
    return type == BF16 ? to_bf16(sum) : sum;
}

/* ---- tests: each runs on a group ---- */

static bool gathers(struct group *g)
{
    static const size_t sizes[] = {0, 1, 17, 4096, 70001};
    int n = group_size(g), me = group_rank(g);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (int in_place = 0; in_place < 2; in_place++) {
            size_t bytes = sizes[k];
            void *part = fill(me, 0, bytes), *whole = be->alloc(bytes * (size_t)n);
            char *own = (char *)whole + bytes * (size_t)me;
            if (in_place)
                be->copy(stream, own, part, bytes);
            OK(all_gather(g, in_place ? own : part, whole, bytes) == 0);
            for (int p = 0; p < n; p++)
                OK(check(whole, bytes * (size_t)p, p, 0, bytes));
            be->free(part, bytes);
            be->free(whole, bytes * (size_t)n);
        }
    }
    return true;
}

static bool scatters_of(struct group *g, enum type type, int64_t count, bool in_place)
{
    int n = group_size(g), me = group_rank(g);
    size_t unit = type_bytes(type), bytes = (size_t)count * unit;
    char *whole = upload_values(me, count * n, type, true), *part = be->alloc(bytes);
    char *out = in_place ? whole + bytes * (size_t)me : part, *host = xmalloc(bytes + 1);
    OK(reduce_scatter(g, type, whole, out, count) == 0);
    be->download(stream, host, out, bytes);
    for (int64_t i = 0; i < count; i++)
        OK(element(host, type, i) == expected_sum(n, i + count * me, type, true));
    /* the rest is as it was */
    host = xrealloc(host, bytes * (size_t)n + 1, 1);
    be->download(stream, host, whole, bytes * (size_t)n);
    for (int64_t i = 0; i < count * n; i++) {
        float was = type == BF16 ? to_bf16(value(me, i, true)) : value(me, i, true);
        OK((in_place && i / count == me) || element(host, type, i) == was);
    }
    free(host);
    be->free(whole, bytes * (size_t)n);
    be->free(part, bytes);
    return true;
}

static bool scatters(struct group *g)
{
    static const int64_t counts[] = {0, 1, 5, 1000, 33333};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        for (int t = 0; t < 4; t++) {
            if (!scatters_of(g, t & 1 ? BF16 : F32, counts[k], t & 2))
                return false;
        }
    }
    return true;
}

static bool same_on_all(struct group *g, const void *host, size_t bytes)
{
    int n = group_size(g);
    uint64_t sum = 1469598103934665603u, *all = xmalloc((size_t)n * sizeof *all);
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ ((const unsigned char *)host)[i]) * 1099511628211u;
    OK(host_gather(g, &sum, all, sizeof sum) == 0);
    for (int p = 0; p < n; p++)
        OK(all[p] == sum);
    free(all);
    return true;
}

static bool reduces(struct group *g)
{
    static const int64_t counts[] = {0, 1, 3, 100, 4099, 150001};
    int n = group_size(g), me = group_rank(g);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        int64_t count = counts[k];
        size_t bytes = (size_t)count * 4;
        float *x = upload_values(me, count, F32, true), *host = xmalloc(bytes + 1);
        OK(all_reduce(g, x, count) == 0);
        be->download(stream, host, x, bytes);
        for (int64_t i = 0; i < count; i++)
            OK(host[i] == expected_sum(n, i, F32, true));
        OK(same_on_all(g, host, bytes));
        free(host);
        be->free(x, bytes);
    }
    return true;
}

/* What a sends b in exchanges(): often nothing, never even. */
static size_t share(int a, int b)
{
    return (a + 2 * b) % 3 == 0 ? 0 : (size_t)(a * 131 + b * 17 + 1) * 7;
}

/* Cuts [p, p+bytes) into at most `most` pieces for `peer`. */
static int cut(struct comm_piece *out, int peer, char *p, size_t bytes, int most)
{
    int n = 0;
    size_t at = 0;
    for (; n < most - 1; n++) {
        size_t len = (bytes - at) / 3;
        out[n] = (struct comm_piece){peer, p + at, len};
        at += len;
    }
    out[n++] = (struct comm_piece){peer, p + at, bytes - at};
    return n;
}

/* Messages of several pieces, cut differently on both sides, the list in reverse order of peers; gaps between
 * the receiver's pieces keep what they hold. */
static bool exchanges(struct group *g)
{
    enum { GAP = 3 };
    int n = group_size(g), me = group_rank(g), sends = 0, recvs = 0;
    struct comm_piece *send = xcalloc((size_t)n * 3, sizeof *send),
                      *recv = xcalloc((size_t)n * 4, sizeof *recv);
    char **out = xcalloc((size_t)n, sizeof *out), **in = xcalloc((size_t)n, sizeof *in);
    for (int p = n - 1; p >= 0; p--) {
        size_t to = share(me, p), from = share(p, me);
        out[p] = fill(me, p, to);
        in[p] = be->alloc(from + GAP);
        sends += cut(send + sends, p, out[p], to, 3);
        size_t half = from / 2;
        recvs += cut(recv + recvs, p, in[p], half, 2);
        recvs += cut(recv + recvs, p, in[p] + half + GAP, from - half, 2);
    }
    OK(exchange(g, send, sends, recv, recvs) == 0);
    for (int p = 0; p < n; p++) {
        size_t from = share(p, me), half = from / 2;
        unsigned char *host = xmalloc(from + GAP);
        be->download(stream, host, in[p], from + GAP);
        for (size_t i = 0; i < from + GAP; i++) {
            bool gap = i >= half && i < half + GAP;
            OK(host[i] == (gap ? 0 : pattern(p, me, i < half ? i : i - GAP)));
        }
        free(host);
        be->free(out[p], share(me, p));
        be->free(in[p], from + GAP);
    }
    free(out);
    free(in);
    free(send);
    free(recv);
    return true;
}

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
            from_p[t] = be->alloc(t < TAGS ? tag_bytes(t) : 5);
            in[t] = comm_recv(g, from, tag, from_p[t], t < TAGS ? tag_bytes(t) : 5);
            OK(in[t]);
        }
        for (int t = 0; t < TAGS + 2; t++) {
            int tag = t < TAGS ? t : COMM_TAGS - 1;
            size_t bytes = t < TAGS ? tag_bytes(t) : 5;
            to_p[t] = fill(me, t, bytes);
            out[t] = comm_send(g, to, tag, to_p[t], bytes);
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
            OK(check(from_p[t], 0, from, sent, bytes));
            be->free(from_p[t], bytes);
            be->free(to_p[t], bytes);
        }
    }
    OK(comm_wait(NULL, NULL) == 0);
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
        OK(host_gather(g, mine, all, bytes) == 0);
        for (size_t i = 0; i < bytes * (size_t)n; i++)
            OK(all[i] == pattern((int)(i / bytes), 5, i % bytes));
        for (int root = 0; root < n; root += 3) {
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
    struct comm_request *s = comm_send(g, to, 0, out, bytes), *r = comm_recv(g, from, 0, in, bytes);
    OK(s && r && comm_wait(s, NULL) == 0 && comm_wait(r, NULL) == 0);
    OK(check(in, 0, from, 1, bytes));
    be->free(in, bytes);
    in = be->alloc(bytes);
    OK(exchange(g, &(struct comm_piece){to, out, bytes}, 1, &(struct comm_piece){from, in, bytes}, 1) == 0);
    OK(check(in, 0, from, 1, bytes));
    be->free(in, bytes);
    be->free(out, bytes);
    return true;
}

/* Two groups of the same ranks at once; messages pending in one while the other works. */
static bool two_groups(struct group *g)
{
    int n = group_size(g), me = group_rank(g), *ranks = xmalloc((size_t)n * sizeof *ranks), mine = rank;
    OK(host_gather(g, &mine, ranks, sizeof mine) == 0);
    struct group *other = comm_group(c, "other", ranks, n);
    OK(other && group_size(other) == n && group_rank(other) == me);
    int next = (me + 1) % n, before = (me + n - 1) % n;
    size_t bytes = 300000;
    void *out = fill(me, 2, bytes), *in = be->alloc(bytes);
    struct comm_request *r = comm_recv(g, before, 3, in, bytes), *s = comm_send(g, next, 3, out, bytes);
    bool ok = r && s && gathers(other) && reduces(g) && exchanges(other);
    for (int i = 0; i < 1000 && !comm_done(s); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    ok = ok && comm_wait(r, NULL) == 0 && comm_wait(s, NULL) == 0 && check(in, 0, before, 2, bytes);
    be->free(in, bytes);
    be->free(out, bytes);
    comm_group_free(other);
    free(ranks);
    return ok;
}

static bool all_on(struct group *g)
{
    return gathers(g) && scatters(g) && reduces(g) && exchanges(g) && points(g) && hosts(g);
}

/* ---- tests on the world ---- */

static void nap(double s)
{
    nanosleep(&(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)(fmod(s, 1) * 1e9)}, NULL);
}

/* Strided, in an order that is not sorted: the even ranks backwards, the odd ones rotated. */
static bool strided(struct group *world)
{
    int *ranks = xmalloc((size_t)size * sizeof *ranks), n = 0;
    for (int r = rank % 2; r < size; r += 2)
        ranks[n++] = r;
    for (int i = 0; i < n / 2; i++) {
        int swap = ranks[i], j = rank % 2 ? (i + n / 2) % n : n - 1 - i;
        ranks[i] = ranks[j];
        ranks[j] = swap;
    }
    struct group *g = comm_group(c, rank % 2 ? "odd" : "even", ranks, n);
    OK(g && group_size(g) == n && ranks[group_rank(g)] == rank);
    bool ok = all_on(g) && two_groups(g);
    comm_group_free(g);
    free(ranks);
    return ok;
}

static bool alone(struct group *world)
{
    struct group *g = comm_group(c, "alone", &rank, 1);
    OK(g);
    bool ok = all_on(g);
    comm_group_free(g);
    return ok;
}

static bool bad_groups(struct group *world)
{
    int far = size, twice[2] = {rank, rank}, other = (rank + 1) % size;
    OK(!comm_group(c, "far", &far, 1) && error_status() == STATUS_ENV);
    OK(!comm_group(c, "twice", twice, 2));
    OK(size == 1 || (!comm_group(c, "absent", &other, 1) && strstr(error_text(), "is not in it")));
    OK(!comm_send(world, size, 0, NULL, 0) && !comm_recv(world, -1, 0, NULL, 0));
    OK(!comm_send(world, rank, COMM_TAGS, NULL, 0) && !comm_recv(world, rank, -1, NULL, 0));
    return true;
}

static bool small_scratch(struct group *world)
{
    size_t bytes = (size_t)size * 12 + 2; /* three floats a peer */
    void *p = be->alloc(bytes), *more = be->alloc(1 << 20);
    comm_set_scratch(c, p, bytes);
    bool ok = scatters_of(world, BF16, 1001, false) && scatters_of(world, F32, 1001, true);
    float *x = upload_values(rank, 1001, F32, true), *host = xmalloc(4004);
    ok = ok && all_reduce(world, x, 1001) == 0;
    be->download(stream, host, x, 4004);
    for (int64_t i = 0; i < 1001; i++)
        ok = ok && host[i] == expected_sum(size, i, F32, true);
    comm_set_scratch(c, more, 1 << 20);
    ok = ok && reduces(world);
    free(host);
    comm_set_scratch(c, p, 2);
    ok = ok && (size == 1 || (all_reduce(world, x, 1001) < 0 && strstr(error_text(), "scratch")));
    comm_set_scratch(c, NULL, 0);
    be->free(x, 4004);
    be->free(p, bytes);
    be->free(more, 1 << 20);
    OK(ok);
    return true;
}

/* The wait for a message counts as idle, its transfer does not. */
static bool idle(struct group *world)
{
    double before = 0, after = 0;
    size_t bytes = 8 << 20;
    void *p = be->alloc(bytes);
    if (rank == 0 && size > 1) {
        struct comm_request *r = comm_recv(world, 1, 1, p, bytes);
        OK(comm_wait(r, &before) == 0);
        r = comm_recv(world, 1, 2, p, bytes);
        nap(0.5);
        OK(comm_wait(r, &after) == 0);
        OK(before > 0.2 && after < 0.1);
    } else if (rank == 1) {
        nap(0.3);
        OK(comm_wait(comm_send(world, 0, 1, p, bytes), NULL) == 0);
        OK(comm_wait(comm_send(world, 0, 2, p, bytes), &after) == 0 && after == 0);
    }
    be->free(p, bytes);
    return true;
}

static bool timeouts(struct group *world)
{
    if (size == 1)
        return true;
    int next = (rank + 1) % size;
    char expect[128];
    void *p = be->alloc(8);
    snprintf(expect, sizeof expect, "(tag 77) in group 'world': no answer within 1 s from peer %d (rank %d)",
             next, next);
    comm_set_timeout(c, 1);
    struct comm_request *r = comm_recv(world, next, 77, p, 8);
    OK(!comm_done(r));
    double start = now_s();
    OK(comm_wait(r, NULL) == -1 && error_status() == STATUS_ENV);
    OK(now_s() - start > 0.9 && now_s() - start < 3);
    OK(strstr(error_text(), expect));
    comm_set_timeout(c, 600);
    int64_t barrier = 0;
    OK(host_max(world, &barrier) == 0); /* still usable here: nothing was under way */
    comm_set_timeout(c, 1);
    struct group *g = comm_group(c, "silent", (int[]){0, 1}, rank < 2 ? 2 : 0);
    if (rank == 0) {
        OK(exchange(g, NULL, 0, &(struct comm_piece){1, p, 8}, 1) == -1);
        OK(strstr(error_text(), "exchange in group 'silent': no answer within 1 s from peer 1 (rank 1)"));
    }
    comm_set_timeout(c, 600);
    return true; /* p may still be written to */
}

static bool wrong_sizes(struct group *world)
{
    if (size == 1)
        return true;
    void *p = be->alloc(200000), *q = be->alloc(200000);
    static const size_t sent[] = {8, 100000, 12, 200000}, asked[] = {12, 200000, 8, 100000};
    for (int i = 0; i < 4; i++) {
        if (rank == 0) {
            struct comm_request *s = comm_send(world, 1, 5, p, sent[i]);
            OK(s);
            comm_set_timeout(c, 0.2);
            comm_wait(s, NULL); /* long ones are never taken */
            comm_set_timeout(c, 600);
        } else if (rank == 1) {
            OK(comm_wait(comm_recv(world, 0, 5, q, asked[i]), NULL) == -1 && error_status() == STATUS_ENV);
            OK(strstr(error_text(), "peer 0 (rank 0)"));
        }
    }
    maps = 0; /* a failure leaves its map */
    return true;
}

static void test(const char *name, bool (*fn)(struct group *))
{
    struct group *world = comm_world(c);
    error_clear();
    maps = 0;
    int64_t bad = !fn(world);
    if (maps) {
        printf("# rank %d: %lld maps are still open\n", rank, (long long)maps);
        bad = 1;
    }
    fflush(stdout);
    if (host_max(world, &bad)) {
        printf("# rank %d: %s\n", rank, error_text());
        comm_abort(c, 1);
    }
    if (rank == 0)
        printf("%sok %d - %s, %d ranks (%s, %s)\n", bad ? "not " : "", ++tests, name, size, comm_kind(c),
               be->name);
    fflush(stdout);
    if (bad)
        comm_abort(c, 1);
}

static struct comm *start(const char *kind, const struct backend *b)
{
    be = b;
    stream = be->stream_new();
    struct comm *new = comm_open(kind);
    if (!new || comm_attach(new, be, stream) < 0) {
        printf("Bail out! %s\n", error_text());
        exit(1);
    }
    rank = comm_rank(new);
    size = comm_size(new);
    return new;
}

static void run_all(void)
{
    test("gathers", gathers);
    test("sums scattered", scatters);
    test("sums on all", reduces);
    test("exchanges", exchanges);
    test("point to point", points);
    test("host memory", hosts);
    test("large messages", large);
    test("two groups", two_groups);
    test("strided groups", strided);
    test("groups of one", alone);
    test("bad groups", bad_groups);
    test("little scratch", small_scratch);
    test("idle time", idle);
}

/* ---- measurements ---- */

static void bench_exchange(struct group *g, size_t bytes, int times)
{
    int n = group_size(g), me = group_rank(g);
    char *a = be->alloc(bytes * (size_t)n), *b = be->alloc(bytes * (size_t)n);
    struct comm_piece *list = xcalloc(2 * (size_t)n, sizeof *list);
    for (int p = 0; p < n; p++) {
        list[p] = (struct comm_piece){p, a + bytes * (size_t)p, p == me ? 0 : bytes};
        list[n + p] = (struct comm_piece){p, b + bytes * (size_t)p, p == me ? 0 : bytes};
    }
    double start = 0;
    for (int i = -times / 4 - 1; i < times; i++) {
        if (i == 0)
            start = now_s();
        if (exchange(g, list, n, list + n, n))
            comm_abort(c, 1);
    }
    double s = (now_s() - start) / times;
    if (me == 0)
        printf("exchange    %9zu B a peer: %10.1f us %8.2f GB/s out of a rank\n", bytes, s * 1e6,
               (double)bytes * (n - 1) / s / 1e9);
    free(list);
    be->free(a, bytes * (size_t)n);
    be->free(b, bytes * (size_t)n);
}

static void bench_reduce(struct group *g, int64_t count, int times)
{
    float *x = be->alloc((size_t)count * 4);
    double start = 0;
    for (int i = -times / 4 - 1; i < times; i++) {
        if (i == 0)
            start = now_s();
        if (all_reduce(g, x, count))
            comm_abort(c, 1);
    }
    double s = (now_s() - start) / times;
    if (group_rank(g) == 0)
        printf("all_reduce  %9lld B       : %10.1f us %8.2f GB/s\n", (long long)count * 4, s * 1e6,
               (double)count * 4 / s / 1e9);
    be->free(x, (size_t)count * 4);
}

static void bench_gather(struct group *g, int times)
{
    int64_t v = 0;
    double start = now_s();
    for (int i = 0; i < times; i++) {
        if (host_max(g, &v))
            comm_abort(c, 1);
    }
    double s = (now_s() - start) / times;
    if (group_rank(g) == 0)
        printf("host_max                         : %10.1f us\n", s * 1e6);
}

static void bench_point(struct group *g, size_t bytes, int times)
{
    int me = group_rank(g);
    void *p = be->alloc(bytes);
    double start = now_s();
    for (int i = 0; me < 2 && group_size(g) > 1 && i < times; i++) {
        for (int half = 0; half < 2; half++) {
            struct comm_request *r =
                me == half ? comm_send(g, !me, 1, p, bytes) : comm_recv(g, !me, 1, p, bytes);
            if (comm_wait(r, NULL))
                comm_abort(c, 1);
        }
    }
    double s = (now_s() - start) / times / 2;
    if (me == 0)
        printf("ping-pong   %9zu B       : %10.1f us %8.2f GB/s\n", bytes, s * 1e6, (double)bytes / s / 1e9);
    be->free(p, bytes);
}

static void bench(double start)
{
    double opened = now_s();
    int *ranks = xmalloc((size_t)size * sizeof *ranks);
    for (int kind = 0; kind < 8; kind++) {
        int n = 0;
        for (int r = rank % (kind + 1); r < size; r += kind + 1)
            ranks[n++] = r;
        comm_group_free(comm_group(c, "bench", ranks, n));
    }
    free(ranks);
    int64_t v = 0;
    struct group *world = comm_world(c);
    host_max(world, &v);
    if (rank == 0)
        printf("%d ranks, %d on this host: opened in %.3f s, 8 groups and host_max in %.6f s\n", size,
               comm_local_ranks(c), opened - start, now_s() - opened);
    size_t scratch = 64 << 20;
    void *p = be->alloc(scratch);
    comm_set_scratch(c, p, scratch);
    int many = size > 2 ? size > 16 ? 20 : 200 : 20000;
    bench_exchange(world, 8, many);
    bench_exchange(world, 4096, many);
    bench_exchange(world, 65536, many > 200 ? 2000 : many / 4);
    bench_exchange(world, (64 << 20) / (size_t)(size > 1 ? size - 1 : 1) / (size > 8 ? 8 : 1), 5);
    bench_reduce(world, 2, many);
    bench_reduce(world, 4096, many);
    bench_reduce(world, size > 16 ? 1 << 20 : 16 << 20, 5);
    bench_gather(world, many);
    bench_point(world, 8, many);
    bench_point(world, 4096, many);
    bench_point(world, 64 << 20, 5);
    comm_set_scratch(c, NULL, 0);
    be->free(p, scratch);
}

int main(int argc, char **argv)
{
    double begin = now_s();
    const struct backend *guard = backend_open(argc > 1 ? "cpu" : "guard", 0, 1);
    if (argc > 1) {
        c = start("auto", guard);
        if (strcmp(argv[1], "bench") == 0)
            bench(begin);
        else if (rank == size - 1)
            comm_abort(c, atoi(argv[2]));
        else
            nap(5);
        comm_close(c);
        return 0;
    }
    struct comm *first = c = start("auto", guard);
    run_all();
    staged = *backend_open("cpu", 0, 1);
    staged.name = "staged";
    staged.host_map = stage_map;
    staged.host_unmap = stage_unmap;
    c = start("auto", &staged);
    run_all();
    test("wrong sizes", wrong_sizes);
    comm_close(c);
    c = start("self", guard);
    bool printer = comm_rank(first) == 0;
    if (printer)
        run_all();
    comm_close(c);
    be = guard;
    c = first;
    rank = comm_rank(c);
    size = comm_size(c);
    test("timeouts", timeouts);
    if (printer)
        printf("1..%d\n", tests);
    comm_close(c);
    return 0;
}

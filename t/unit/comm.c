/* SPDX-License-Identifier: MIT */
/* Collectives, and groups. `comm abort STATUS` ends the job from its last rank instead. */
#include <time.h>

#include "base/bf16.h"
#include "base/memory.h"
#include "comm/agree.h"
#include "lib/comm.h"

/* ---- sums ---- */

/* Element i of a peer's summand: sums round, so that their order shows. */
static float value(int peer, int64_t i)
{
    int v = (int)((i * 37 + peer * 101) % 61) - 30;
    return (float)v * 0.1f + (float)peer * 1e3f * (float)(i % 3);
}

static float to_bf16(float f)
{
    return bf16_to_f32(f32_to_bf16(f));
}

static void *upload_values(int peer, int64_t count, enum type type)
{
    char *host = xmalloc((size_t)count * 4 + 1);
    for (int64_t i = 0; i < count; i++) {
        float f = value(peer, i);
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

static float expected_sum(int peers, int64_t i, enum type type)
{
    float sum = 0;
    for (int p = 0; p < peers; p++) {
        float f = value(p, i);
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
            OK(all_gather(g, stream, in_place ? own : part, whole, bytes) == 0);
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
    char *whole = upload_values(me, count * n, type), *part = be->alloc(bytes);
    char *out = in_place ? whole + bytes * (size_t)me : part, *host = xmalloc(bytes + 1);
    OK(reduce_scatter(g, stream, type, whole, out, count) == 0);
    be->download(stream, host, out, bytes);
    for (int64_t i = 0; i < count; i++)
        OK(element(host, type, i) == expected_sum(n, i + count * me, type));
    /* the rest is as it was */
    host = xrealloc(host, bytes * (size_t)n + 1, 1);
    be->download(stream, host, whole, bytes * (size_t)n);
    for (int64_t i = 0; i < count * n; i++) {
        float was = type == BF16 ? to_bf16(value(me, i)) : value(me, i);
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
    uint64_t sum = 1469598103934665603u, first;
    for (size_t i = 0; i < bytes; i++)
        sum = (sum ^ ((const unsigned char *)host)[i]) * 1099511628211u;
    first = sum;
    OK(host_broadcast(g, 0, &first, sizeof first) == 0);
    OK(sum == first);
    return true;
}

static bool reduces(struct group *g)
{
    static const int64_t counts[] = {0, 1, 3, 100, 4099, 150001};
    int n = group_size(g), me = group_rank(g);
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        int64_t count = counts[k];
        size_t bytes = (size_t)count * 4;
        float *x = upload_values(me, count, F32), *host = xmalloc(bytes + 1);
        OK(all_reduce(g, stream, x, count) == 0);
        be->download(stream, host, x, bytes);
        for (int64_t i = 0; i < count; i++)
            OK(host[i] == expected_sum(n, i, F32));
        OK(same_on_all(g, host, bytes));
        free(host);
        be->free(x, bytes);
    }
    return true;
}

/* Whole numbers, so that the order of a tree does not show, and in f64 more than f32 could tell apart. */
static bool tree_sums(struct group *g)
{
    enum { COUNT = 70 };
    int n = group_size(g), me = group_rank(g);
    int64_t peers = (int64_t)n * (n - 1) / 2;
    float f[COUNT];
    double d[COUNT];
    for (int i = 0; i < COUNT; i++) {
        f[i] = (float)(me + i);
        d[i] = 0x1p40 + me + i;
    }
    float *x = be->alloc(sizeof f);
    double *y = be->alloc(sizeof d);
    be->upload(stream, x, f, sizeof f);
    be->upload(stream, y, d, sizeof d);
    OK(tree_sum_f32(g, stream, x, COUNT) == 0 && tree_sum_f64(g, stream, y, COUNT) == 0);
    OK(tree_sum_f32(g, stream, x, 0) == 0 && tree_sum_f64(g, stream, y, 0) == 0);
    be->download(stream, f, x, sizeof f);
    be->download(stream, d, y, sizeof d);
    for (int i = 0; i < COUNT; i++)
        OK(f[i] == (float)(peers + (int64_t)n * i) && d[i] == n * 0x1p40 + (double)(peers + (int64_t)n * i));
    be->free(x, sizeof f);
    be->free(y, sizeof d);
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

/* Of kinds that take one piece a peer: two that do not touch are refused, with nothing queued. */
static bool refuses_gaps(struct group *g)
{
    char *p = be->alloc(64);
    int peer = group_rank(g) ? 0 : 1;
    OK(exchange(g, stream, (struct comm_piece[]){{peer, p, 8}, {peer, p + 16, 8}}, 2, NULL, 0) == -1);
    OK(strstr(error_text(), "several that do not touch"));
    error_clear();
    be->free(p, 64);
    return true;
}

/* Messages of several pieces, cut differently on both sides, the list in reverse order of peers; gaps between
 * the receiver's pieces, where the kind takes them, keep what they hold. */
static bool exchanges(struct group *g)
{
    bool touching = strcmp(comm_kind(c), "strict") == 0;
    size_t gap = touching ? 0 : 3;
    OK(!touching || group_size(g) == 1 || refuses_gaps(g));
    int n = group_size(g), me = group_rank(g), sends = 0, recvs = 0;
    struct comm_piece *send = xcalloc((size_t)n * 3, sizeof *send),
                      *recv = xcalloc((size_t)n * 4, sizeof *recv);
    char **out = xcalloc((size_t)n, sizeof *out), **in = xcalloc((size_t)n, sizeof *in);
    for (int p = n - 1; p >= 0; p--) {
        size_t to = share(me, p), from = share(p, me);
        out[p] = fill(me, p, to);
        in[p] = be->alloc(from + gap);
        be->zero(stream, in[p], from + gap);
        sends += cut(send + sends, p, out[p], to, 3);
        size_t half = from / 2;
        recvs += cut(recv + recvs, p, in[p], half, 2);
        recvs += cut(recv + recvs, p, in[p] + half + gap, from - half, 2);
    }
    OK(exchange(g, stream, send, sends, recv, recvs) == 0);
    memset(send, 0xFF, (size_t)n * 3 * sizeof *send); /* the lists are ours again */
    memset(recv, 0xFF, (size_t)n * 4 * sizeof *recv);
    for (int p = 0; p < n; p++) {
        size_t from = share(p, me), half = from / 2;
        unsigned char *host = xmalloc(from + gap);
        be->download(stream, host, in[p], from + gap);
        for (size_t i = 0; i < from + gap; i++) {
            bool between = i >= half && i < half + gap;
            OK(host[i] == (between ? 0 : pattern(p, me, i < half ? i : i - gap)));
        }
        free(host);
        be->free(out[p], share(me, p));
        be->free(in[p], from + gap);
    }
    free(out);
    free(in);
    free(send);
    free(recv);
    return true;
}

/* Two groups of the same ranks at once; messages under way in one while the other works. */
static bool two_groups(struct group *g)
{
    int n = group_size(g), me = group_rank(g), *ranks = xmalloc((size_t)n * sizeof *ranks), mine = rank;
    OK(host_gather(g, &mine, sizeof mine, ranks) == 0 &&
       host_broadcast(g, 0, ranks, (size_t)n * sizeof mine) == 0);
    struct group *other = comm_group(c, "other", ranks, n);
    OK(other && group_size(other) == n && group_rank(other) == me);
    int next = (me + 1) % n, before = (me + n - 1) % n;
    size_t bytes = 300000;
    void *out = fill(me, 2, bytes), *in = be->alloc(bytes);
    struct stream *beside = be->stream_new();
    be->sync(stream);
    OK(exchange(g, beside, &(struct comm_piece){next, out, bytes}, 1, &(struct comm_piece){before, in, bytes},
                1) == 0);
    bool ok = gathers(other) && reduces(g) && exchanges(other);
    ok = ok && be->sync(beside) == 0 && check(in, 0, before, 2, bytes);
    be->stream_free(beside);
    be->free(in, bytes);
    be->free(out, bytes);
    comm_group_free(other);
    free(ranks);
    return ok;
}

static bool all_on(struct group *g)
{
    return gathers(g) && scatters(g) && reduces(g) && tree_sums(g) && exchanges(g);
}

static bool all_on_two(struct group *g)
{
    return all_on(g) && two_groups(g);
}

static bool strided(struct group *world)
{
    return on_strided(all_on_two);
}

static bool alone(struct group *world)
{
    return on_alone(all_on);
}

static bool bad_groups(struct group *world)
{
    int far = size, twice[2] = {rank, rank}, other = (rank + 1) % size;
    OK(!comm_group(c, "far", &far, 1) && error_status() == STATUS_ENV);
    OK(!comm_group(c, "twice", twice, 2));
    OK(size == 1 || (!comm_group(c, "absent", &other, 1) && strstr(error_text(), "is not in it")));
    OK(comm_send(world, stream, size, NULL, 0) < 0 && comm_recv(world, stream, -1, NULL, 0, NULL) < 0);
    OK(!host_send(world, size, 0, NULL, 0) && !host_recv(world, -1, 0, NULL, 0));
    OK(!host_send(world, rank, COMM_TAGS, NULL, 0) && !host_recv(world, rank, -1, NULL, 0));
    return true;
}

static bool small_scratch(struct group *world)
{
    size_t bytes = (size_t)size * 12 + 2; /* three floats a peer */
    void *p = be->alloc(bytes), *more = be->alloc(1 << 20);
    comm_set_scratch(c, p, bytes);
    bool ok = scatters_of(world, BF16, 1001, false) && scatters_of(world, F32, 1001, true);
    float *x = upload_values(rank, 1001, F32), *host = xmalloc(4004);
    ok = ok && all_reduce(world, stream, x, 1001) == 0;
    be->download(stream, host, x, 4004);
    for (int64_t i = 0; i < 1001; i++)
        ok = ok && host[i] == expected_sum(size, i, F32);
    comm_set_scratch(c, more, 1 << 20);
    ok = ok && reduces(world);
    free(host);
    comm_set_scratch(c, p, 2);
    ok = ok && (size == 1 || (all_reduce(world, stream, x, 1001) < 0 && strstr(error_text(), "scratch")));
    comm_set_scratch(c, NULL, 0);
    be->free(x, 4004);
    be->free(p, bytes);
    be->free(more, 1 << 20);
    OK(ok);
    return true;
}

/* A failure of the last rank, with the error that it has set: all learn of it, and that rank keeps the text. */
static bool agreement(enum status status)
{
    bool agreed = false, last = rank == size - 1;
    struct heard h;
    error_clear();
    OK(comm_agree(c, 0, &agreed) == 0 && !agreed);
    for (int hear = 0; hear < 2; hear++) {
        if (last && status != STATUS_DONE)
            error(status, "it is full");
        if (hear)
            OK(comm_hear(c, last ? -1 : 0, &h) == 1 && h.rank == size - 1 && *h.text && !*error_text());
        else
            OK(comm_agree(c, last ? -1 : 0, &agreed) == -1 && agreed && !*error_text() == !last);
        OK((hear ? h.status : error_status()) == (status == STATUS_DONE ? STATUS_ENV : status));
        error_clear();
    }
    return true;
}

static bool agreements(struct group *world)
{
    return agreement(STATUS_USAGE) && agreement(STATUS_ENV) &&
           agreement(STATUS_DONE); /* one that nobody has called error() for */
}

static bool kinds(struct group *world)
{
    OK(word_index(&comm_words, "self") == 0 && word_index(&comm_words, "mpi") == 1);
    OK(!comm_open("pigeon") && error_status() == STATUS_USAGE);
    OK(comm_local_rank(c) < comm_local_ranks(c) && comm_local_ranks(c) <= size);
    const int *here = comm_local_list(c);
    OK(here[comm_local_rank(c)] == rank);
    for (int i = 1; i < comm_local_ranks(c); i++)
        OK(here[i] > here[i - 1] && here[i] < size);
    return true;
}

static void tests(void)
{
    test("gathers", gathers);
    test("sums scattered", scatters);
    test("sums on all", reduces);
    test("few numbers summed", tree_sums);
    test("exchanges", exchanges);
    test("two groups", two_groups);
    test("strided groups", strided);
    test("groups of one", alone);
    test("bad groups", bad_groups);
    test("agreements", agreements);
    test("little scratch", small_scratch);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "abort") == 0) {
        c = start("auto", backend_open("cpu", 0, 1));
        if (rank == size - 1)
            comm_abort(c, atoi(argv[2]));
        nanosleep(&(struct timespec){.tv_sec = 5}, NULL);
        comm_close(c);
        return 0;
    }
    test_all(tests, kinds, "kinds");
    return 0;
}

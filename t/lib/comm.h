/* SPDX-License-Identifier: MIT */
/* For tests of communication: contents that tell where they come from, and ways to run a test. A test is a
 * function on a group that returns whether it passed; without a launcher it runs as the kind `self`, under
 * `mpirun -n N` on N ranks as `mpi`. */
#ifndef T_COMM_H
#define T_COMM_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/collective.h"
#include "comm/comm.h"
#include "comm/host.h"

static struct comm *c;
static const struct backend *be;
static struct stream *stream;
static int rank, size, tests_done;

#define OK(cond)                                                                                               \
    do {                                                                                                       \
        if (!(cond)) {                                                                                         \
            printf("# rank %d: %s:%d: %s: %s\n", rank, __FILE__, __LINE__, #cond, error_text());               \
            return false;                                                                                      \
        }                                                                                                      \
    } while (0)

/* ---- contents that tell where they come from ---- */

/* Byte i of what `from` has for `to` (or of its message number `to`). */
static inline unsigned char pattern(int from, int to, size_t i)
{
    uint64_t x = (uint64_t)i * 0x9E3779B97F4A7C15u + (uint64_t)(from * 1009 + to) * 0xD1B54A32D192ED03u;
    return (unsigned char)(x >> 56 ^ x >> 23);
}

static inline void *host_fill(int from, int to, size_t bytes)
{
    unsigned char *host = xmalloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++)
        host[i] = pattern(from, to, i);
    return host;
}

/* Whether host memory holds what host_fill(from, to, bytes) made. */
static inline bool host_check(const void *p, int from, int to, size_t bytes)
{
    const unsigned char *host = p;
    size_t bad = 0;
    while (bad < bytes && host[bad] == pattern(from, to, bad))
        bad++;
    return bad == bytes;
}

/* The same on the device. */
static inline void *fill(int from, int to, size_t bytes)
{
    void *host = host_fill(from, to, bytes);
    void *p = be->alloc(bytes);
    be->upload(stream, p, host, bytes);
    free(host);
    return p;
}

/* Whether the device memory at p + skip holds what fill(from, to, bytes) made. */
static inline bool check(const void *p, size_t skip, int from, int to, size_t bytes)
{
    unsigned char *host = xmalloc(bytes + 1);
    bool ok =
        be->download(stream, host, (const char *)p + skip, bytes) == 0 && host_check(host, from, to, bytes);
    free(host);
    return ok;
}

/* ---- running ---- */

/* Runs `fn` on all ranks and says whether it passed on all. */
static inline void test(const char *name, bool (*fn)(struct group *))
{
    struct group *world = comm_world(c);
    error_clear();
    int64_t bad = !fn(world);
    fflush(stdout);
    if (host_max(world, &bad)) {
        printf("# rank %d: %s\n", rank, error_text());
        comm_abort(c, 1);
    }
    if (rank == 0)
        printf("%sok %d - %s, %d ranks (%s, %s)\n", bad ? "not " : "", ++tests_done, name, size, comm_kind(c),
               be->name);
    fflush(stdout);
    if (bad)
        comm_abort(c, 1);
}

/* Opens the communication `kind` and makes the backend the one of all that follows. */
static inline struct comm *start(const char *kind, const struct backend *b)
{
    be = b;
    stream = be->stream_new();
    struct comm *new = comm_open(kind);
    if (!new || comm_attach(new, be) < 0) {
        printf("Bail out! %s\n", error_text());
        exit(1);
    }
    rank = comm_rank(new);
    size = comm_size(new);
    return new;
}

/* Runs `fn` on a strided group whose order is not sorted: the even ranks backwards, the odd ones rotated. */
static inline bool on_strided(bool (*fn)(struct group *))
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
    bool ok = fn(g);
    comm_group_free(g);
    free(ranks);
    return ok;
}

/* Runs `fn` on a group of this rank only. */
static inline bool on_alone(bool (*fn)(struct group *))
{
    struct group *g = comm_group(c, "alone", &rank, 1);
    OK(g);
    bool ok = fn(g);
    comm_group_free(g);
    return ok;
}

/* Runs `tests` with memory that faults when the host touches it and that host work sees a copy of, as the kind
 * `strict`, and on one rank as the kind `self`; then `last` on the first of these again. Prints the plan. */
static inline void test_all(void (*tests)(void), bool (*last)(struct group *), const char *name)
{
    const struct backend *guard = backend_open("guard", 0, 1);
    struct comm *first = c = start("auto", guard);
    tests();
    c = start("strict", backend_open("cpu", 0, 1));
    tests();
    comm_close(c);
    c = start("self", guard);
    bool printer = comm_rank(first) == 0;
    if (printer)
        tests();
    comm_close(c);
    be = guard;
    c = first;
    rank = comm_rank(c);
    size = comm_size(c);
    test(name, last);
    if (printer)
        printf("1..%d\n", tests_done);
    comm_close(c);
}

#endif

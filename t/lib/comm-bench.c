/* SPDX-License-Identifier: MIT */
/* Speed of communication, under `mpirun -n N`: usage comm-bench. */
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "comm/collective.h"
#include "comm/comm.h"
#include "comm/host.h"

static struct comm *c;
static const struct backend *be;
static struct stream *stream;
static int rank, size;

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
        if (exchange(g, stream, list, n, list + n, n) || be->sync(stream))
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
        if (all_reduce(g, stream, x, count) || be->sync(stream))
            comm_abort(c, 1);
    }
    double s = (now_s() - start) / times;
    if (group_rank(g) == 0)
        printf("all_reduce  %9lld B       : %10.1f us %8.2f GB/s\n", (long long)count * 4, s * 1e6,
               (double)count * 4 / s / 1e9);
    be->free(x, (size_t)count * 4);
}

/* What ends a step of replicas: gradients summed in place, weights gathered in place. */
static void bench_slices(struct group *g, enum type type, size_t bytes, int times)
{
    size_t each = bytes / (size_t)group_size(g) / 64 * 64;
    char *whole = be->alloc(bytes), *part = whole + each * (size_t)group_rank(g);
    double spent[2] = {0};
    for (int i = -1; i < times; i++) {
        double start = now_s();
        if (reduce_scatter(g, stream, type, whole, part, (int64_t)(each / type_bytes(type))) ||
            be->sync(stream))
            comm_abort(c, 1);
        double middle = now_s();
        if (all_gather(g, stream, part, whole, each) || be->sync(stream))
            comm_abort(c, 1);
        spent[0] += i < 0 ? 0 : middle - start;
        spent[1] += i < 0 ? 0 : now_s() - middle;
    }
    for (int i = 0; i < 2 && group_rank(g) == 0; i++)
        printf("%s %9zu B of %s: %7.1f us %8.2f GB/s\n", i ? "all_gather    " : "reduce_scatter", bytes,
               type == F32 ? "f32 " : "bf16", spent[i] / times * 1e6, (double)bytes * times / spent[i] / 1e9);
    be->free(whole, bytes);
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
            int r =
                me == half ? comm_send(g, stream, !me, p, bytes) : comm_recv(g, stream, !me, p, bytes, NULL);
            if (r || be->sync(stream))
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
    bench_slices(world, F32, size > 16 ? 4 << 20 : 256 << 20, 5);
    bench_slices(world, BF16, size > 16 ? 4 << 20 : 128 << 20, 5);
    bench_gather(world, many);
    bench_point(world, 8, many);
    bench_point(world, 4096, many);
    bench_point(world, 64 << 20, 5);
    comm_set_scratch(c, NULL, 0);
    be->free(p, scratch);
}

int main(void)
{
    double begin = now_s();
    be = backend_open("cpu", 0, 1);
    stream = be->stream_new();
    c = comm_open("auto");
    if (!c || comm_attach(c, be) < 0) {
        fprintf(stderr, "comm-bench: %s\n", error_text());
        return error_status();
    }
    rank = comm_rank(c);
    size = comm_size(c);
    bench(begin);
    comm_close(c);
    return 0;
}

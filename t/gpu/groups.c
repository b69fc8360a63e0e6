/* SPDX-License-Identifier: MIT */
/* What a plan's groups move, all groups of a kind at once, as in a step: usage mpirun -n N groups [-b BACKEND]
 * [-c COMM] [-m BYTES] PLAN.
 *
 * Lines with tabs between: `link`, bytes a second each way of rank 0's device to others of its host, what that
 * is; then of each kind of group and operation, of a small size and the largest: kind, ranks, operation, bytes,
 * seconds, algorithm bandwidth, bus bandwidth.
 *
 * Bandwidths are those of NVIDIA's nccl-tests (PERFORMANCE.md): algorithm, bytes over seconds; bus, what
 * crosses each rank's link, each way: (n-1)/n of the bytes that are gathered, scattered or exchanged, 2(n-1)/n
 * of those that are reduced on all, all of a message. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/num.h"
#include "comm/host.h"
#include "cost/links.h"
#include "probe/nvml.h"
#include "probe/probe.h"

enum { SMALL = 64 << 10, LARGE = 256 << 20 };
#define WINDOW_S 0.1

static size_t largest = LARGE;

/* What is sent, and what comes. */
static size_t memory_of(const struct backend *be)
{
    return 2 * largest;
}

static double bus_share(enum wire wire, int n)
{
    double most = (double)(n - 1) / n;
    return wire == WIRE_MESSAGE ? 1 : wire == WIRE_REDUCE ? 2 * most : most;
}

/* Of the slowest group of the kind; 0 where there is none. */
static int slowest(struct probe *p, struct group *g, enum wire wire, size_t bytes, double *s)
{
    int64_t ns = 0;
    double once;
    *s = 0;
    if (g) {
        TRY(wire_time(&p->bench, g, wire, bytes, 1, &once));
        TRY(wire_time(&p->bench, g, wire, bytes, (int)fmax(3, fmin(200, WINDOW_S / once)), s));
        ns = (int64_t)(1e9 * *s);
    }
    TRY(host_max(comm_world(p->comm), &ns));
    *s = 1e-9 * (double)ns;
    return 0;
}

static int measure(struct probe *p, struct group *g, const char *kind, enum wire wire)
{
    int64_t size = g ? group_size(g) : 0;
    TRY(host_max(comm_world(p->comm), &size)); /* rank 0 may be in none */
    for (size_t bytes = min64(SMALL, (int64_t)largest); size > 1; bytes = largest) {
        double s;
        TRY(slowest(p, g, wire, bytes, &s));
        double Bps = (double)bytes / s;
        if (probe_is_first(p))
            printf("%s\t%d\t%s\t%zu\t%.4g\t%.4g\t%.4g\n", kind, (int)size, wire_name[wire], bytes, s, Bps,
                   Bps * bus_share(wire, (int)size));
        fflush(stdout);
        if (bytes == largest)
            break;
    }
    return 0;
}

/* What the driver says, or else the plan's cluster. */
static void say_link(const struct probe *p)
{
    const struct backend_device *d = p->bench.be->device;
    void *device = d ? nvml_device(d->id) : NULL;
    struct nvml_link l = {.Bps = NAN};
    if (device)
        nvml_read_link(device, &l);
    if (isnan(l.Bps)) {
        l.Bps = p->machine.intra_Bps;
        snprintf(l.what, sizeof l.what, "the cluster file");
    }
    printf("link\t%.4g\t%s\n", l.Bps, l.what);
}

static int measure_all(struct probe *p, struct wires *w)
{
    if (probe_is_first(p))
        say_link(p);
    TRY(wires_open(w, p->comm, &p->plan));
    for (enum wire wire = 0; wire < WIRES; wire++)
        TRY(measure(p, comm_world(p->comm), "world", wire));
    for (int kind = 0; kind < GROUP_KINDS; kind++)
        for (enum wire wire = 0; wire < WIRES; wire++)
            TRY(measure(p, w->group[kind], group_name[kind], wire));
    return 0;
}

int main(int argc, char **argv)
{
    struct probe_options o = {.backend = "cuda", .comm = "nccl", .timeout_s = 60};
    struct probe p;
    struct wires w = {0};
    int c;
    while ((c = getopt(argc, argv, "b:c:m:")) != -1)
        switch (c) {
        case 'b':
            o.backend = optarg;
            break;
        case 'c':
            o.comm = optarg;
            break;
        case 'm':
            largest = (size_t)strtoull(optarg, NULL, 10);
            break;
        default:
            return STATUS_USAGE;
        }
    o.plan = argv[optind];
    if (!o.plan || largest < 4096)
        return STATUS_USAGE;
    int r = probe_open(&p, &o, memory_of);
    if (r == 0)
        r = measure_all(&p, &w);
    if (r < 0 && *error_text())
        fprintf(stderr, "groups: rank %d: %s\n", p.comm ? comm_rank(p.comm) : -1, error_text());
    if (r < 0 && p.comm && !p.agreed)
        comm_abort(p.comm, error_status());
    wires_close(&w);
    probe_close(&p);
    comm_close(p.comm);
    return r < 0 ? error_status() : STATUS_DONE;
}

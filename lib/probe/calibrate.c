/* SPDX-License-Identifier: MIT */
#include "probe/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "comm/host.h"
#include "cost/curve.h"
#include "cost/layer.h"
#include "probe/calibrate_fit.h"

enum { TRIES = 3 };
#define WINDOW_S  0.12
#define DISTURBED 0.2 /* the share of disturbed measurements that is still well */

/* ---- what is measured ---- */

/* Products by work, in no proportions of any model; those of several experts come last. `scale`: of a device,
 * all dimensions so many times larger. */
static const struct multiply shapes[] = {
    {.m = 72, .n = 360, .k = 360},
    {.m = 136, .n = 600, .k = 432},
    {.m = 208, .n = 1048, .k = 664},
    {.m = 328, .n = 1480, .k = 824},
    {.m = 440, .n = 1960, .k = 1144},
    {.m = 712, .n = 2264, .k = 1352},
    {.m = 952, .n = 3176, .k = 1688},
    {.m = 40, .n = 1240, .k = 760, .experts = 6},
    {.m = 112, .n = 1240, .k = 760, .experts = 6},
    {.m = 296, .n = 1240, .k = 760, .experts = 6},
};
enum { SHAPES = sizeof shapes / sizeof *shapes, DEVICE_SCALE = 4 };

static struct multiply shape_of(const struct backend *be, int i, enum product_use use, enum type type)
{
    struct multiply p = shapes[i];
    int64_t scale = be->device ? DEVICE_SCALE : 1;
    p.m *= scale, p.n *= scale, p.k *= scale;
    p.use = use, p.type = type;
    return p;
}

static struct attend attend_of(const struct backend *be, bool back, enum type type)
{
    int64_t scale = be->device ? DEVICE_SCALE : 1;
    return (struct attend){
        .sequences = 2, .seq = 320 * scale, .heads = 10, .dim = 64, .back = back, .type = type};
}

/* Memory for all of that, and for messages: more than caches hold. */
static size_t bytes_of(const struct backend *be)
{
    size_t most = be->device ? (size_t)1 << 30 : (size_t)192 << 20;
    for (int i = 0; i < SHAPES; i++) {
        struct multiply p = shape_of(be, i, PRODUCT_WEIGHT, F32);
        most = product_bytes(&p) > most ? product_bytes(&p) : most;
    }
    return most;
}

/* ---- one measurement ---- */

static void add_up(void *into, const void *from, size_t bytes)
{
    double *x = into;
    const double *y = from;
    for (size_t i = 0; i < bytes / sizeof *x; i++)
        x[i] += y[i];
}

static int take(struct calibration *c, bench_work *work, const void *what, double *s)
{
    const struct bench *b = &c->p->bench;
    int ranks = comm_size(c->p->comm);
    for (int try = 1;; try++) {
        struct timing t;
        TRY(bench_time(b, work, what, WINDOW_S * try, &t));
        double all[2] = {t.median_s, t.median_s / t.best_s - 1};
        TRY(host_all_reduce(comm_world(c->p->comm), all, sizeof all, add_up));
        *s = all[0] / ranks;
        if (all[1] / ranks < c->p->o->tolerance)
            break;
        if (try == TRIES) { /* the same on all ranks, and so is the end */
            c->disturbed++;
            TRY(probe_agree(c->p, calibrate_judge(c, DISTURBED)));
            break;
        }
    }
    progress("measurements", (uint64_t)++c->measured, (uint64_t)c->planned, "done");
    return 0;
}

/* The median of some, each of the slowest rank. */
static int take_wire(struct calibration *c, struct group *g, enum wire wire, size_t bytes, double *s)
{
    double each[9];
    int repeats = bytes < 1 << 20 ? 32 : 4, count = sizeof each / sizeof *each;
    for (int i = 0; i < count; i++)
        TRY(wire_time(&c->p->bench, g, wire, bytes, repeats, &each[i]));
    qsort(each, (size_t)count, sizeof *each, calibrate_by_value);
    *s = each[count / 2];
    c->disturbed += each[count / 2] > (1 + 2 * c->p->o->tolerance) * each[0];
    c->measured++;
    return 0;
}

/* ---- all of them ---- */

static int measure_products(struct calibration *c)
{
    for (int type = F32; type <= BF16; type++)
        for (int i = 0; i < SHAPES; i++)
            for (int use = PRODUCT_FORWARD; use <= PRODUCT_WEIGHT; use++) {
                struct multiply p = shape_of(c->p->bench.be, i, use, type);
                int turn = 0;
                double s;
                p.turn = &turn;
                TRY(take(c, bench_product, &p, &s));
                calibrate_add_product(c, &p, s);
            }
    return 0;
}

static int measure_memory(struct calibration *c)
{
    struct traffic t = {.count = (int64_t)(c->p->bench.bytes / 8 / 64 * 64)};
    double s;
    TRY(take(c, bench_traffic, &t, &s));
    c->memory_Bps = TRAFFIC_BYTES * (double)t.count / s;
    t.count = 16;
    TRY(take(c, bench_traffic, &t, &c->operation_s));
    for (int back = 0; back < 2; back++) {
        struct attend a = attend_of(c->p->bench.be, back, F32);
        TRY(take(c, bench_attend, &a, &s));
        c->attention[back] = attend_flops(&a) / s;
    }
    return 0;
}

/* ---- groups ---- */

enum { LEVELS = 8 }; /* groups of 2, 4, … 256 ranks */

/* Where ranks are, by the names of their hosts: those of this rank's host, and those that are on each host what
 * this one is on its own, both in order; and groups of 2, 4, … of them that follow each other. */
struct level {
    int *ranks, count;
    struct group *group[LEVELS]; /* NULL: none, or none that this rank is in */
};
enum { INSIDE, ACROSS };

static int index_in(const struct level *l, int rank)
{
    int at = 0;
    while (l->ranks[at] != rank)
        at++;
    return at;
}

static void find_ranks(const struct probe *p, const char (*host)[HOST_NAME], struct level level[static 2])
{
    int n = comm_size(p->comm), me = comm_rank(p->comm);
    int *place = xcalloc((size_t)n, sizeof *place); /* of each among those of its host */
    for (int l = INSIDE; l <= ACROSS; l++)
        level[l].ranks = xcalloc((size_t)n, sizeof(int));
    json_t *seen = json_object();
    for (int r = 0; r < n; r++) {
        char *name = utf8_repair(host[r], strnlen(host[r], HOST_NAME), NULL);
        place[r] = (int)json_integer_value(json_object_get(seen, name));
        json_object_set_new(seen, name, json_integer(place[r] + 1));
        free(name);
    }
    json_decref(seen);
    for (int r = 0; r < n; r++) {
        if (strncmp(host[r], host[me], HOST_NAME) == 0)
            level[INSIDE].ranks[level[INSIDE].count++] = r;
        if (place[r] == place[me])
            level[ACROSS].ranks[level[ACROSS].count++] = r;
    }
    free(place);
}

static int open_levels(struct probe *p, struct level level[static 2])
{
    static const char *const names[2][LEVELS] = {
        {"host 2", "host 4", "host 8", "host 16", "host 32", "host 64", "host 128", "host 256"},
        {"hosts 2", "hosts 4", "hosts 8", "hosts 16", "hosts 32", "hosts 64", "hosts 128", "hosts 256"},
    };
    struct group *all[2 * LEVELS];
    int n = comm_size(p->comm);
    char(*host)[HOST_NAME] = xcalloc((size_t)n, sizeof *host);
    int r = host_gather(comm_world(p->comm), p->host, HOST_NAME, host);
    if (r == 0)
        r = host_broadcast(comm_world(p->comm), 0, host, (size_t)n * sizeof *host);
    if (r == 0)
        find_ranks(p, host, level);
    free(host);
    TRY(r);
    for (int l = INSIDE; l <= ACROSS; l++)
        for (int i = 0; i < LEVELS; i++) {
            int size = 2 << i, first = index_in(&level[l], comm_rank(p->comm)) / size * size;
            struct group **g = &level[l].group[i];
            if (first + size <= level[l].count)
                *g = comm_group(p->comm, names[l][i], level[l].ranks + first, size);
            all[l * LEVELS + i] = *g;
        }
    return comm_join(p->comm, all, 2 * LEVELS);
}

static void close_levels(struct level level[static 2])
{
    for (int l = INSIDE; l <= ACROSS; l++) {
        for (int i = 0; i < LEVELS; i++)
            comm_group_free(level[l].group[i]);
        free(level[l].ranks);
    }
}

/* Rank 0 is in every group that there is. */
static int measure_group(struct calibration *c, struct group *g, struct reach reach)
{
    static const size_t sizes[] = {4 << 10, 64 << 10, 512 << 10, 2 << 20, 8 << 20, 64 << 20};
    for (int wire = 0; wire < WIRES; wire++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            double s = 0;
            if (2 * sizes[i] > c->p->bench.bytes)
                continue;
            if (g)
                TRY(take_wire(c, g, wire, sizes[i], &s));
            TRY(bench_wait(comm_world(c->p->comm)));
            if (probe_is_first(c->p))
                calibrate_add_wire(c, wire, reach, sizes[i], s);
        }
    return 0;
}

static int measure_links(struct calibration *c, struct level level[static 2])
{
    for (int l = INSIDE; l <= ACROSS; l++)
        for (int i = 0; i < LEVELS; i++) {
            int64_t any = level[l].group[i] != NULL;
            TRY(host_max(comm_world(c->p->comm), &any));
            if (any)
                TRY(measure_group(c, level[l].group[i], (struct reach){2 << i, l == INSIDE ? 2 << i : 1}));
        }
    return 0;
}

/* ---- the whole ---- */

static int measure(struct calibration *c)
{
    struct level level[2] = {{0}};
    const struct backend_device *d = c->p->bench.be->device;
    double host = (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);
    int r = open_levels(c->p, level);
    c->memory_bytes = d ? (double)d->bytes : host / comm_local_ranks(c->p->comm);
    c->per_node = level[INSIDE].count;
    c->nodes = level[ACROSS].count;
    c->planned = 2 * SHAPES * 3 + 4;
    if (r == 0)
        r = measure_products(c);
    if (r == 0)
        r = measure_memory(c);
    if (r == 0)
        r = measure_links(c, level);
    close_levels(level);
    return r;
}

static int report(struct calibration *c)
{
    struct output o;
    TRY(calibrate_judge(c, DISTURBED));
    json_t *root = calibrate_cluster(c);
    if (!root)
        return -1;
    int r = output_open(&o, c->p->o->output);
    if (r == 0) {
        json_dumpf(root, o.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(5));
        fputc('\n', o.stream);
        r = output_commit(&o);
    }
    json_decref(root);
    return r;
}

enum status calibrate_run(const struct probe_options *o, struct comm **comm, bool *broken)
{
    struct probe p;
    struct calibration c = {.p = &p};
    int r = probe_open(&p, o, bytes_of);
    *comm = p.comm;
    *broken = false;
    if (!p.comm)
        return error_status();
    if (r == 0)
        r = measure(&c);
    progress_end();
    if (r == 0)
        r = probe_agree(&p, probe_is_first(&p) ? report(&c) : 0);
    *broken = r < 0 && !p.agreed && comm_size(p.comm) > 1;
    calibration_release(&c);
    enum status s = r < 0 ? error_status() : STATUS_DONE;
    if (!*broken)
        probe_close(&p);
    return s;
}

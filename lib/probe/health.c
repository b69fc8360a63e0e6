/* SPDX-License-Identifier: MIT */
#include "probe/health.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/halt.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "comm/host.h"
#include "cost/curve.h"
#include "cost/layer.h"
#include "model/size.h"
#include "plan/states.h"

#define WINDOW_S   0.1  /* of each figure and round, */
#define PAUSE_S    0.05 /* and between rounds */
#define TURN_LEAST 0.01
enum {
    ROUNDS = 3,         /* of which the middle one counts; */
    MORE = 6,           /* and where one of them stands out so many more, and of all the third slowest */
    CUBE = 512,         /* a product of some milliseconds on a core, */
    DEVICE_CUBE = 4096, /* and of half a millisecond on a device, or as large as fits */
};

const struct health_row health_row[HEALTH_CHECKS] = {
    [HEALTH_PROCESSORS] = {"processors", "", 1},
    [HEALTH_MEMORY] = {"memory", "GB", 1e9},
    [HEALTH_DISK] = {"disk", "GB", 1e9},
    [HEALTH_BUSY] = {"busy", "%", 0.01, .less = true},
    [HEALTH_PRODUCTS] = {"products", "GFLOP/s", 1e9},
    [HEALTH_BANDWIDTH] = {"bandwidth", "GB/s", 1e9},
    [HEALTH_UPLOAD] = {"upload", "GB/s", 1e9},
    [HEALTH_DOWNLOAD] = {"download", "GB/s", 1e9},
    [HEALTH_TEMPERATURE] = {"temperature", "C", 1, .less = true},
    [HEALTH_CLOCKS] = {"clocks", "MHz", 1e6},
    [HEALTH_THROTTLE] = {"throttle", "", 1, .less = true},
    [HEALTH_ECC] = {"ecc", "", 1, .less = true},
    [HEALTH_OTHERS] = {"other-processes", "", 1, .less = true},
    [HEALTH_INSIDE] = {"links-inside", "GB/s", 1e9},
    [HEALTH_ACROSS] = {"links-across", "GB/s", 1e9},
};

/* ---- what is measured ---- */

/* Enough that caches do not hold it. */
static size_t bytes_of(const struct backend *be)
{
    if (be->device)
        return (size_t)max64(2 * LINK_BYTES, min64((int64_t)1 << 30, be->device->bytes / 16));
    int64_t can = process_available_bytes();
    return (size_t)(can ? max64(8 << 20, min64(96 << 20, can / 64)) : 96 << 20);
}

static struct multiply product_of(const struct probe *p)
{
    bool device = p->bench.be->device != NULL;
    enum type type = device ? BF16 : F32;
    if (p->plan.world)
        type = p->plan.training.precision == PRECISION_F32 ? F32 : BF16;
    if (!device)
        return (struct multiply){.m = CUBE, .n = CUBE, .k = CUBE, .type = type};
    struct multiply product = {.type = type};
    for (int64_t n = DEVICE_CUBE; product.m == 0 || product_bytes(&product) > p->bench.bytes; n /= 2)
        product.m = 2 * n, product.n = product.k = n;
    return product;
}

static double free_bytes(const char *path)
{
    struct statvfs f;
    char *at = path_absolute(path);
    while (statvfs(at, &f) < 0 && (errno == ENOENT || errno == ENOTDIR) && at[1]) {
        char *above = path_parent(at);
        free(at);
        at = above;
    }
    bool known = statvfs(at, &f) == 0;
    free(at);
    return known ? (double)f.f_bavail * (double)f.f_frsize : NAN;
}

static double memory_of(const struct probe *p)
{
    const struct backend_device *d = p->bench.be->device;
    double can = d ? (double)(d->bytes - d->context_bytes)
                   : (double)process_available_bytes() / comm_local_ranks(p->comm);
    return can > 0 ? can : NAN;
}

/* How many ranks there are to a processor of this host. */
static double crowd_of(const struct probe *p)
{
    double ranks = (double)comm_local_ranks(p->comm) * p->threads / (double)sysconf(_SC_NPROCESSORS_ONLN);
    return p->bench.be->device ? 1 : fmax(1, ranks);
}

/* Seconds of one operation while all ranks do theirs, as if each had its processors to itself: what it waits
 * for a turn says who else is there, not how fast the rank is. */
static int take_rounds(struct probe *p, struct health_rank *r, bench_work *work, const void *what, double *s,
                       int rounds)
{
    for (int i = 0; i < rounds; i++) {
        struct timing t;
        nanosleep(&(struct timespec){.tv_nsec = (long)(PAUSE_S * 1e9)}, NULL);
        halt_round();
        TRY(bench_time(&p->bench, work, what, WINDOW_S, &t));
        bool turns = !p->bench.be->device && t.waited > 0; /* not where it is unknown */
        s[i] = t.mean_s * (turns ? fmax(1 - t.waited, TURN_LEAST) : 1);
        if (!p->bench.be->device)
            r->value[HEALTH_BUSY] = fmin(r->value[HEALTH_BUSY], t.waited); /* of NaN and a number the number */
    }
    return 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The middle one of three rounds: what is wrong with a rank is so each time, what others do comes and goes. But
 * a rank may stand still in one of three, again and again: where any rank has a round that much slower than its
 * middle one, more of them tell whether that was once. */
static int measure_work(struct probe *p, struct health_rank *r, bench_work *work, const void *what, double *s)
{
    double each[ROUNDS + MORE];
    TRY(take_rounds(p, r, work, what, each, ROUNDS));
    qsort(each, ROUNDS, sizeof *each, by_value);
    int64_t stood = each[ROUNDS / 2] < (1 - p->o->tolerance) * each[ROUNDS - 1];
    TRY(host_max(comm_world(p->comm), &stood));
    if (!stood) {
        *s = each[ROUNDS / 2];
        return 0;
    }
    TRY(take_rounds(p, r, work, what, each + ROUNDS, MORE));
    qsort(each, ROUNDS + MORE, sizeof *each, by_value);
    *s = each[ROUNDS + MORE - (ROUNDS + MORE) / ROUNDS];
    return 0;
}

static int measure_computing(struct probe *p, struct health_rank *r)
{
    struct multiply product = product_of(p);
    struct traffic traffic = {.count = (int64_t)(p->bench.bytes / 8 / 64 * 64)};
    double s;
    TRY(measure_work(p, r, bench_product, &product, &s));
    r->value[HEALTH_PRODUCTS] = product_flops(&product) / s;
    TRY(health_ask_device(p, r, &product, s));
    TRY(measure_work(p, r, bench_traffic, &traffic, &s));
    r->value[HEALTH_BANDWIDTH] = TRAFFIC_BYTES * (double)traffic.count / s;
    return 0;
}

static int slowest_first(const void *a, const void *b)
{
    double x = ((const struct link *)a)->Bps, y = ((const struct link *)b)->Bps;
    return (x > y) - (x < y);
}

/* The median of this rank's links of one kind; they are sorted. */
static double median_link(const struct link *list, int count, bool across)
{
    int n = 0, k = 0;
    for (int i = 0; i < count; i++)
        n += list[i].across == across;
    for (int i = 0; i < count; i++)
        if (list[i].across == across && k++ == n / 2)
            return list[i].Bps;
    return NAN;
}

static int measure_links(struct probe *p, struct link **list, int *count)
{
    struct wires w;
    int r = probe_agree(p, wires_open(&w, p->comm, p->o->plan ? &p->plan : NULL));
    if (r == 0)
        r = wires_measure(&p->bench, &w, p->host, list, count);
    wires_close(&w);
    return r;
}

static int measure(struct probe *p, struct health_rank *r, struct link **links)
{
    for (int i = 0; i < HEALTH_CHECKS; i++)
        r->value[i] = r->own[i] = NAN;
    snprintf(r->host, sizeof r->host, "%s", p->host);
    r->crowd = crowd_of(p);
    r->value[HEALTH_PROCESSORS] = comm_processors(p->comm);
    r->value[HEALTH_MEMORY] = memory_of(p);
    if (p->o->save)
        r->value[HEALTH_DISK] = free_bytes(p->o->save);
    halt_at("health");
    TRY(measure_computing(p, r));
    TRY(measure_links(p, links, &r->links));
    halt_at("end");
    qsort(*links, (size_t)r->links, sizeof **links, slowest_first);
    r->value[HEALTH_INSIDE] = median_link(*links, r->links, false);
    r->value[HEALTH_ACROSS] = median_link(*links, r->links, true);
    return 0;
}

/* ---- what is expected, at rank 0 ---- */

/* What half of the ranks have at least; NaN where there is nobody to compare with, or half have too much. */
static double most_have(const struct health *h, enum health_check check)
{
    double *sorted = xmalloc((size_t)h->ranks * sizeof *sorted), half = NAN;
    int n = 0;
    for (int r = 0; r < h->ranks; r++)
        if (!isnan(h->rank[r].value[check]))
            sorted[n++] = h->rank[r].value[check];
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    if (n > 1 && !health_row[check].less)
        half = sorted[n / 2];
    free(sorted);
    return half;
}

/* What the devices say of themselves, where they say different things the one that asks most; NaN: nothing. */
static double devices_say(const struct health *h, enum health_check check)
{
    double most = NAN;
    for (int r = 0; r < h->ranks; r++) {
        double x = h->rank[r].own[check];
        most = health_row[check].less ? fmin(most, x) : fmax(most, x); /* of NaN and a number the number */
    }
    return most;
}

/* Of a run with this plan: weights, and AdamW's master weights and moments. */
static double checkpoint_bytes(const struct plan *p)
{
    double each = (double)plan_type_bytes(p) + 8 + (plan_keeps(p, STATE_MASTER) ? 4 : 0);
    return each * (double)model_parameters(&p->model);
}

/* Where ranks share processors each has its turn: the share of the time in which it waits for that is known,
 * and the more it is, the more a message waits, whose best of some it is that counts. */
static void expect_turns(struct health *h, double least, double crowd)
{
    double turn = 1 / crowd;
    bool known = true;
    for (int r = 0; r < h->ranks; r++) {
        double waited = h->rank[r].value[HEALTH_BUSY];
        known = known && !isnan(waited);
        turn = fmin(turn, fmax(1 - waited, 0.25 / crowd)); /* of NaN and a number the number */
    }
    h->expect[HEALTH_BUSY] = (struct expectation){1 - least / crowd, 1, "its own ranks"};
    if (turn < 1)
        h->expect[HEALTH_INSIDE].least = h->expect[HEALTH_ACROSS].least = least * turn / 2;
    if (crowd > 1 && !known)
        h->expect[HEALTH_PRODUCTS].least = h->expect[HEALTH_BANDWIDTH].least = least / 2;
}

static int expect(const struct probe *p, struct health *h)
{
    static const char cluster[] = "the cluster", plan[] = "the plan", others[] = "the other ranks",
                      device[] = "the device";
    const struct machine *m = &p->machine;
    struct multiply product = product_of(p);
    bool of_host = p->bench.be->device && m->device == DEVICE_CPU; /* the file's memory */
    struct curve curve;
    TRY(curve_parse(&curve, m->efficiency));
    double flops = product.type == F32 ? m->flops_f32 : m->flops_bf16, least = 1 - p->o->tolerance, crowd = 1;
    for (int r = 0; r < h->ranks; r++)
        crowd = fmax(crowd, h->rank[r].crowd);
    const double filed[HEALTH_CHECKS] = {
        [HEALTH_MEMORY] = of_host ? 0 : m->memory_bytes,
        [HEALTH_PRODUCTS] = flops * curve_share(&curve, product_flops(&product)),
        [HEALTH_BANDWIDTH] = MEMORY_SHARE * m->memory_Bps,
        [HEALTH_INSIDE] = m->intra_Bps > 0 ? LINK_BYTES / message_s(m, false, LINK_BYTES) : 0,
        [HEALTH_ACROSS] = m->inter_Bps > 0 ? LINK_BYTES / message_s(m, true, LINK_BYTES) : 0,
    };
    for (int i = 0; i < HEALTH_CHECKS; i++) {
        double own = devices_say(h, i);
        h->expect[i] = filed[i] > 0 ? (struct expectation){filed[i], least, cluster}
                       : own >= 0   ? (struct expectation){own, least, device}
                                    : (struct expectation){most_have(h, i), least, others};
    }
    h->expect[HEALTH_DISK].value = NAN;
    expect_turns(h, least, crowd);
    if (p->plan.world) {
        h->expect[HEALTH_MEMORY] = (struct expectation){p->plan.predict.memory_bytes, 1, plan};
        h->expect[HEALTH_DISK] = (struct expectation){checkpoint_bytes(&p->plan), 1, plan};
    }
    return 0;
}

/* ---- the whole ---- */

/* Each rank judges its links by what rank 0 has found to be expected, and keeps the worst. */
static void judge_links(const struct health *h, struct health_rank *r, const struct link *links)
{
    for (int i = 0; i < r->links; i++) {
        const struct expectation *e = &h->expect[links[i].across ? HEALTH_ACROSS : HEALTH_INSIDE];
        if (!(links[i].Bps < e->least * e->value))
            continue;
        if (r->slow < HEALTH_WORST)
            r->worst[r->slow] = links[i];
        r->slow++;
    }
}

static int ask_all(struct probe *p, struct health *h)
{
    struct group *world = comm_world(p->comm);
    struct health_rank mine = {0};
    struct link *links = NULL;
    int r = measure(p, &mine, &links);
    if (r == 0)
        r = host_gather(world, &mine, sizeof mine, h->rank);
    int expected = r == 0 && probe_is_first(p) ? expect(p, h) : 0;
    if (r == 0)
        r = probe_agree(p, expected);
    if (r == 0)
        r = host_broadcast(world, 0, h->expect, sizeof h->expect);
    if (r == 0) {
        judge_links(h, &mine, links);
        r = host_gather(world, &mine, sizeof mine, h->rank);
    }
    if (r == 0 && probe_is_first(p)) {
        health_count_others(h);
        health_say_untold(h);
    }
    free(links);
    return r;
}

static int report(const struct health *h)
{
    struct output o;
    TRY(output_open(&o, h->o->output));
    if (h->o->json)
        health_json(o.stream, h);
    else
        health_print(o.stream, h);
    return output_commit(&o);
}

/* A rank was lost: of those that are left the first says so. */
static int report_lost(const struct probe_options *o, const struct comm_fault *f, const char *cluster, int rank,
                       int ranks)
{
    struct health h = {.o = o, .cluster = cluster, .ranks = ranks, .lost = f};
    if (!f || f->rank < 0)
        return -1;
    return rank == (f->rank == 0 ? 1 : 0) ? report(&h) : 0;
}

void health_last_words(const struct probe_options *o, const struct comm_fault *f)
{
    report_lost(o, f, o->cluster ? o->cluster : "", launcher_rank(), launcher_ranks());
}

enum status health_run(const struct probe_options *o, struct comm **comm, bool *broken)
{
    struct probe p;
    struct health h = {.o = o};
    int r = probe_open(&p, o, bytes_of);
    *comm = p.comm;
    *broken = false;
    if (!p.comm)
        return error_status();
    h.ranks = comm_size(p.comm);
    h.cluster = p.machine.name;
    if (probe_is_first(&p))
        h.rank = xcalloc((size_t)h.ranks, sizeof *h.rank);
    if (r == 0)
        r = ask_all(&p, &h);
    progress_end();
    if (r == 0)
        r = probe_agree(&p, probe_is_first(&p) ? report(&h) : 0);
    int64_t worst = r == 0 && probe_is_first(&p) && !health_healthy(&h) ? STATUS_NO : STATUS_DONE;
    if (r == 0)
        r = host_max(comm_world(p.comm), &worst);
    enum status s = r == 0 ? (enum status)worst : error_status();
    *broken = r < 0 && !p.agreed && comm_size(p.comm) > 1; /* failed alone: the others still wait */
    if (*broken && report_lost(o, comm_fault(p.comm), h.cluster, comm_rank(p.comm), h.ranks) == 0)
        s = STATUS_NO;
    free(h.rank);
    if (!*broken)
        probe_close(&p);
    return s;
}

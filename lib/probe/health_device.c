/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "probe/health.h"
#include "probe/nvml.h"

#define WINDOW_S 0.1
#define BUSY_S   0.05 /* of work in the queue while the device is asked */
enum { COPIED = 64 << 20 };

static int measure_copies(struct probe *p, struct health_rank *r)
{
    struct transfer t = {.bytes = p->bench.bytes < COPIED ? p->bench.bytes : COPIED};
    struct timing up, down;
    t.host = xcalloc(1, t.bytes);
    int status = bench_time(&p->bench, bench_upload, &t, WINDOW_S, &up);
    if (status == 0)
        status = bench_time(&p->bench, bench_download, &t, WINDOW_S, &down);
    free(t.host);
    TRY(status);
    r->value[HEALTH_UPLOAD] = (double)t.bytes / up.mean_s;
    r->value[HEALTH_DOWNLOAD] = (double)t.bytes / down.mean_s;
    return 0;
}

/* What NVML tells, and what it says that it should be. */
static void judge_state(struct health_rank *r, const struct nvml_state *s)
{
    r->value[HEALTH_TEMPERATURE] = s->temperature;
    r->value[HEALTH_CLOCKS] = s->clock_Hz;
    r->value[HEALTH_THROTTLE] = s->reasons;
    r->value[HEALTH_ECC] = s->errors;
    r->value[HEALTH_OTHERS] = s->processes;
    r->own[HEALTH_TEMPERATURE] = s->slowdown;
    r->own[HEALTH_CLOCKS] = s->most_Hz;
    r->own[HEALTH_THROTTLE] = r->own[HEALTH_ECC] = r->own[HEALTH_OTHERS] = 0;
    r->reason = s->reason;
}

int health_ask_device(struct probe *p, struct health_rank *r, const struct multiply *product, double product_s)
{
    const struct backend_device *d = p->bench.be->device;
    if (!d)
        return 0;
    snprintf(r->device, sizeof r->device, "%s", d->id);
    r->own[HEALTH_MEMORY] = (double)d->bytes;
    TRY(measure_copies(p, r));
    void *device = nvml_device(d->id);
    if (!device) {
        snprintf(r->untold, sizeof r->untold, "%s", error_text());
        error_clear();
        return 0;
    }
    /* Clocks and heat are those of a run only while the device works. */
    struct nvml_state s;
    for (double queued = 0; queued < BUSY_S; queued += product_s)
        bench_product(&p->bench, product);
    nvml_read(device, &s);
    judge_state(r, &s);
    return p->bench.be->sync(p->bench.s);
}

/* By numbers, not by process: in a container the driver knows a process by another one. */
void health_count_others(struct health *h)
{
    json_t *ours = json_object();
    char **key = xcalloc((size_t)h->ranks, sizeof *key);
    for (int r = 0; r < h->ranks; r++) {
        const struct health_rank *at = &h->rank[r];
        char *host = utf8_repair(at->host, strnlen(at->host, HOST_NAME), NULL);
        key[r] = xasprintf("%s %s", host, at->device);
        free(host);
        json_object_set_new(ours, key[r], json_integer(1 + json_integer_value(json_object_get(ours, key[r]))));
    }
    for (int r = 0; r < h->ranks; r++) {
        double *others = &h->rank[r].value[HEALTH_OTHERS]; /* with NaN it stays so */
        *others -= (double)json_integer_value(json_object_get(ours, key[r]));
        *others = *others < 0 ? 0 : *others;
        free(key[r]);
    }
    free(key);
    json_decref(ours);
}

void health_say_untold(const struct health *h)
{
    int first = -1, count = 0;
    for (int r = h->ranks - 1; r >= 0; r--)
        if (*h->rank[r].untold) {
            first = r;
            count++;
        }
    if (count)
        complain("the driver tells nothing of %d of %d devices, whose temperature, clocks, errors and other "
                 "processes are not checked: rank %d on '%s': %s",
                 count, h->ranks, first, h->rank[first].host, h->rank[first].untold);
}

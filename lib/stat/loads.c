/* SPDX-License-Identifier: MIT */
/* A thread sums a whole range of steps in their order, and the ranges are added in theirs: so the sums are the
 * same whoever made them. */
#include "stat/loads.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "stat/sum.h"

enum { MOST_THREADS = 16, TRIES = 64 };
#define MOST_BIN_BYTES ((size_t)256 << 20) /* of all ranges together; with larger matrices there is one range */

/* What the threads share. */
struct job {
    struct loads *l;
    struct steplog *log;
    size_t from[LOAD_BINS + 1]; /* the ranges, as indices of steps */
    int bins, taken;
    pthread_mutex_t lock;
    int status; /* of an error, whose text is: */
    char *text;
};

/* A thread's own. */
struct loads_reader {
    struct spool_window steps;
    char *text;
    int64_t room;
    double *loads;
};

/* ---- one record ---- */

/* The text of its matrix; NULL with error() set. */
static const char *loads_text(struct loads_reader *r, const struct steplog *log, const struct step_record *s)
{
    int64_t bytes = (int64_t)s->record_bytes - s->loads_at;
    room_for(&r->text, &r->room, bytes + 1 + SCAN_PADDING);
    memset(r->text, 0, (size_t)bytes + 1 + SCAN_PADDING);
    if (log_source_read(&log->sources[s->log], r->text, bytes, s->at + s->loads_at) < 0)
        return NULL;
    r->text[bytes] = '\n';
    return r->text;
}

static void loads_reader_release(struct loads_reader *r)
{
    spool_window_release(&r->steps);
    free(r->text);
    free(r->loads);
}

/* ---- all of them ---- */

static int sum_range(struct job *j, struct loads_reader *r, int bin, size_t count[static 3])
{
    struct loads *l = j->l;
    size_t n = (size_t)l->layers * (size_t)l->experts;
    double *to = l->bin[bin];
    if (!r->loads)
        r->loads = xcalloc(n, sizeof *r->loads);
    for (size_t i = j->from[bin]; i < j->from[bin + 1]; i++) {
        const struct step_record *s = spool_read(&j->log->step_spool, &r->steps, i);
        int layers, experts;
        if (!s->loads_at)
            continue;
        const char *text = loads_text(r, j->log, s);
        if (!text)
            return -1;
        bool good = scan_loads(text, &layers, &experts, r->loads, n);
        bool same = good && layers == l->layers && experts == l->experts;
        if (!good)
            good = scan_loads(text, &layers, &experts, NULL, 0); /* it may be larger */
        count[same ? 0 : good ? 1 : 2]++;
        for (size_t k = 0; same && k < n; k++)
            to[k] += r->loads[k];
    }
    return 0;
}

static void *sum_ranges(void *arg)
{
    struct job *j = arg;
    struct loads_reader r = {0};
    size_t count[3] = {0}; /* summed, of another shape, none */
    for (;;) {
        pthread_mutex_lock(&j->lock);
        int bin = j->text ? j->bins : j->taken++;
        pthread_mutex_unlock(&j->lock);
        if (bin >= j->bins)
            break;
        if (sum_range(j, &r, bin, count) < 0) {
            pthread_mutex_lock(&j->lock);
            j->status = error_status();
            if (!j->text)
                j->text = xstrdup(error_text());
            pthread_mutex_unlock(&j->lock);
        }
    }
    pthread_mutex_lock(&j->lock);
    j->l->steps += count[0];
    j->l->other += count[1];
    j->l->bad += count[2];
    pthread_mutex_unlock(&j->lock);
    loads_reader_release(&r);
    return NULL;
}

/* The shape of the last matrix, and how many records have one. */
static int find_shape(struct loads *l, struct steplog *log)
{
    struct loads_reader r = {0};
    size_t last[TRIES], n = 0;
    for (size_t i = 0; i < log->count; i++)
        if (steplog_step(log, i)->loads_at)
            last[n++ % TRIES] = i;
    bool failed = false, found = false;
    for (size_t k = 0; k < TRIES && k < n && !found && !failed; k++) {
        const char *text = loads_text(&r, log, steplog_step(log, last[(n - 1 - k) % TRIES]));
        failed = !text;
        found = text && scan_loads(text, &l->layers, &l->experts, NULL, 0);
    }
    if (!found)
        l->layers = l->experts = 0;
    loads_reader_release(&r);
    if (log->experts && l->experts != log->experts)
        l->layers = l->experts = 0;
    return failed ? -1 : 0;
}

static void find_ranges(struct job *j)
{
    struct loads *l = j->l;
    size_t bytes = (size_t)l->layers * (size_t)l->experts * sizeof(double), at = 0;
    int64_t first = steplog_step(j->log, 0)->step, last = steplog_step(j->log, j->log->count - 1)->step;
    double width = ((double)last - (double)first + 1) / LOAD_BINS;
    j->bins = bytes * LOAD_BINS <= MOST_BIN_BYTES ? LOAD_BINS : 1;
    for (int b = 0; b <= LOAD_BINS; b++)
        l->bin_first[b] = b < j->bins ? first + (int64_t)ceil(width * b) : last + (last < INT64_MAX);
    for (int b = 0; b < j->bins; b++) {
        l->bin[b] = xcalloc(1, bytes);
        j->from[b] = at;
        while (at < j->log->count && (b + 1 == j->bins || steplog_step(j->log, at)->step < l->bin_first[b + 1]))
            at++;
    }
    j->from[j->bins] = at;
}

int loads_read(struct loads *l, struct steplog *log, int threads)
{
    pthread_t thread[MOST_THREADS];
    struct job j = {.l = l, .log = log, .lock = PTHREAD_MUTEX_INITIALIZER};
    int n = 0;
    *l = (struct loads){0};
    TRY(find_shape(l, log));
    if (!l->layers)
        return 0;
    find_ranges(&j);
    if (threads < 1)
        threads = (int)max64(1, sysconf(_SC_NPROCESSORS_ONLN));
    while (n < threads - 1 && n < MOST_THREADS && pthread_create(&thread[n], NULL, sum_ranges, &j) == 0)
        n++;
    sum_ranges(&j);
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    size_t size = (size_t)l->layers * (size_t)l->experts;
    l->sum = xcalloc(size, sizeof *l->sum);
    for (int b = 0; b < j.bins; b++)
        for (size_t k = 0; k < size; k++)
            l->sum[k] += l->bin[b][k];
    int r = j.text ? error(j.status, "%s", j.text) : 0;
    free(j.text);
    return r;
}

void loads_release(struct loads *l)
{
    free(l->sum);
    for (int b = 0; b < LOAD_BINS; b++)
        free(l->bin[b]);
    *l = (struct loads){0};
}

/* ---- how even they are ---- */

/* A layer's shares of the experts over some ranges, and the difference of two of them. */
static double drift(const struct loads *l, int layer)
{
    enum { QUARTER = LOAD_BINS / 4 };
    double total[2] = {0}, moved = 0;
    size_t at = (size_t)layer * (size_t)l->experts;
    for (int pass = 0; pass < 2; pass++)
        for (int e = 0; e < l->experts; e++) {
            double share[2] = {0};
            for (int b = 0; b < QUARTER && l->bin[LOAD_BINS - 1]; b++) {
                share[0] += l->bin[b][at + (size_t)e];
                share[1] += l->bin[LOAD_BINS - 1 - b][at + (size_t)e];
            }
            for (int k = 0; k < 2 && pass == 0; k++)
                total[k] += share[k];
            if (pass == 1)
                moved += fabs(share[0] / total[0] - share[1] / total[1]);
        }
    return total[0] > 0 && total[1] > 0 ? moved / 2 : NAN;
}

void loads_layer(struct layer_balance *b, const struct loads *l, int layer)
{
    const double *load = l->sum + (size_t)layer * (size_t)l->experts;
    struct sum sum = {0}, square = {0}, entropy = {0};
    *b = (struct layer_balance){0};
    for (int e = 0; e < l->experts; e++) {
        sum_add(&sum, load[e]);
        b->dead += load[e] == 0;
        b->hottest = load[e] > load[b->hottest] ? e : b->hottest;
        b->coldest = load[e] < load[b->coldest] ? e : b->coldest;
    }
    double total = sum_value(&sum), n = l->experts;
    b->mean = total / n;
    for (int e = 0; e < l->experts; e++) {
        double x = load[e] / b->mean - 1, share = load[e] / total;
        sum_add(&square, x * x);
        if (share > 0)
            sum_add(&entropy, -share * log(share));
    }
    b->cv = b->mean > 0 ? sqrt(sum_value(&square) / n) : NAN;
    b->std = b->mean > 0 ? b->cv * b->mean : 0;
    b->max_over_mean = b->mean > 0 ? load[b->hottest] / b->mean : NAN;
    b->min_over_mean = b->mean > 0 ? load[b->coldest] / b->mean : NAN;
    b->entropy = b->mean > 0 ? (n > 1 ? sum_value(&entropy) / log(n) : 1) : NAN;
    b->drift = drift(l, layer);
}

void loads_balance(struct layer_balance *b, const struct loads *l)
{
    struct sum cv = {0}, most = {0}, least = {0}, entropy = {0}, moved = {0}, mean = {0}, std = {0};
    int dead = 0;
    for (int i = 0; i < l->layers; i++) {
        loads_layer(b, l, i);
        dead += b->dead;
        if (!(b->mean > 0))
            continue;
        sum_add(&mean, b->mean);
        sum_add(&std, b->std);
        sum_add(&cv, b->cv);
        sum_add(&most, b->max_over_mean);
        sum_add(&least, b->min_over_mean);
        sum_add(&entropy, b->entropy);
        if (!isnan(b->drift))
            sum_add(&moved, b->drift);
    }
    *b = (struct layer_balance){.mean = sum_mean(&mean),
                                .std = sum_mean(&std),
                                .cv = sum_mean(&cv),
                                .max_over_mean = sum_mean(&most),
                                .min_over_mean = sum_mean(&least),
                                .entropy = sum_mean(&entropy),
                                .drift = sum_mean(&moved),
                                .hottest = -1,
                                .coldest = -1,
                                .dead = dead};
}

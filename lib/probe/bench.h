/* SPDX-License-Identifier: MIT */
/* Seconds that operations take here: what a rank computes, alone or all at once, and what ranks send each
 * other. All is measured through the backend and the communication that a run uses, on processors and devices
 * alike.
 *
 * Functions return 0, or -1 with error() set as the backend's sync() or the communication says. */
#ifndef PROBE_BENCH_H
#define PROBE_BENCH_H

#include "backend.h"
#include "comm/comm.h"

struct bench {
    struct comm *comm;
    const struct backend *be;
    struct stream *s;
    char *memory; /* of the device: [bytes], what operations read and write; no number in it is odd */
    size_t bytes;
};
/* Takes the memory, and the scratch for sums. To be closed in either case. */
int bench_open(struct bench *b, struct comm *c, const struct backend *be, size_t bytes);
void bench_close(struct bench *b);

/* Of one operation, timed in samples of some repetitions each: a millisecond at least. */
struct timing {
    double mean_s, median_s, best_s;
    int samples;
    double waited; /* share of the time for which others had the rank's processors; NaN: not known */
};

/* Collective over the group: nobody goes on before all are here. */
int bench_wait(struct group *g);

/* Queues one operation on b->memory. */
typedef void bench_work(const struct bench *b, const void *what);
/* Collective over the job. For window_s seconds, after a little warm-up. All begin together and the clock ends
 * it, not a count: so they compete all the time. */
int bench_time(const struct bench *b, bench_work *work, const void *what, double window_s, struct timing *t);

/* ---- what a rank computes; `what` ---- */

/* A product of [m,k] by [k,n] in one of its three uses (struct matmul), or of as many experts' (struct
 * grouped_matmul), m rows each. */
enum product_use { PRODUCT_FORWARD, PRODUCT_INPUT, PRODUCT_WEIGHT };
struct multiply {
    int64_t m, n, k, experts; /* experts 0: a matmul */
    enum product_use use;
    enum type type;
    int *turn; /* NULL: one weight, which stays in caches; else another each time, as in a step */
};
size_t product_bytes(const struct multiply *p); /* of memory that it needs */
double product_flops(const struct multiply *p);
bench_work bench_product;

/* Causal attention (struct attention), or its gradients, which compute the scores again: of each 2 products
 * forward, 5 backward, half of them above the diagonal. */
struct attend {
    int64_t sequences, seq, heads, dim;
    bool back;
    enum type type;
};
size_t attend_bytes(const struct attend *a);
double attend_flops(const struct attend *a);
bench_work bench_attend;

/* Sums of two arrays of so many elements of f32 into the first: 12 bytes each are read or written. */
struct traffic {
    int64_t count;
};
#define TRAFFIC_BYTES 12.0 /* an element */
bench_work bench_traffic;

/* Copies of b->memory's first bytes from or to the host's, by the means of a run: page-locked memory that the
 * backend keeps. */
struct transfer {
    size_t bytes;
    void *host; /* [bytes] */
};
bench_work bench_upload, bench_download;

#endif

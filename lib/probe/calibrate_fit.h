/* SPDX-License-Identifier: MIT */
/* From what was measured (calibrate.h) to a cluster file. */
#ifndef PROBE_CALIBRATE_FIT_H
#define PROBE_CALIBRATE_FIT_H

#include <jansson.h>

#include "cost/links.h"
#include "probe/linear.h"
#include "probe/probe.h"

/* A product as it was measured, in one of its uses. */
struct product_rate {
    double work, s, weight_bytes; /* of one expert's */
    enum type type;
};
/* A collective. What is longer than WIRE_CACHED bytes moves at the speed of memory, not of links. */
#define WIRE_CACHED 2097152.0
struct wire_sample {
    enum wire wire;
    struct reach reach;
    double bytes, seconds;
};

struct calibration {
    struct probe *p;
    int nodes, per_node;              /* ranks a node; of several those of rank 0's */
    int planned, measured, disturbed; /* measurements; planned: of computing alone */
    struct product_rate *product;
    int products;
    struct wire_sample *wire;
    int wires;
    double memory_bytes;             /* of a rank */
    double operation_s;              /* from one small operation to the next */
    double memory_Bps, attention[2]; /* operations a second, forward and backward, in f32 */
};

int calibrate_by_value(const void *a, const void *b); /* of doubles, for qsort() */
void calibrate_add_product(struct calibration *c, const struct multiply *p, double s);
void calibrate_add_wire(struct calibration *c, enum wire wire, struct reach reach, size_t bytes, double s);
void calibration_release(struct calibration *c);

/* -1 with error() (status 3) where more than this share of the measurements was disturbed. */
int calibrate_judge(const struct calibration *c, double share);
/* The file; NULL with error() where no fit is to be had. */
json_t *calibrate_cluster(const struct calibration *c);

#endif

/* SPDX-License-Identifier: MIT */
/* A dense model becomes an MoE (sparse upcycling, arXiv 2212.05055). */
#ifndef RECAST_UPCYCLE_H
#define RECAST_UPCYCLE_H

#include <stdint.h>

struct upcycle_request {
    const char *dir, *out;
    int64_t experts, top_k;
    double std;    /* of the routers' weights */
    uint64_t seed; /* of their drawing */
};

/* Each layer's MLP becomes `experts` copies of itself behind a router that is drawn from normal(0, std); all
 * else stays. The chosen experts' weights sum to 1, so the new model computes what the old one does, to
 * rounding, until it is trained. Llama becomes Mixtral, Qwen3 Qwen3-MoE. A plain Hugging Face directory. -1:
 * status 2 (another family; parts that the new one has not: biases of Llama, windows of Qwen3) or 3, and
 * nothing is left. */
int upcycle_dir(const struct upcycle_request *r);

#endif

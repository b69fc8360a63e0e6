/* SPDX-License-Identifier: MIT */
/* Experts to devices by their loads: one layer at a time, no plan needed.
 *
 * The hierarchical balancer is that of DeepSeek's EPLB (github.com/deepseek-ai/EPLB, eplb.py), whose results
 * it gives exactly: in f32, with sorts that are stable where upstream's are not. Its parts:
 *
 *   pack       items of falling weight, each into the least loaded pack that is not full, the first of equals;
 *              with one item a pack each keeps its place
 *   replicate  the first E slots have an expert each; the others that of which a replica has most
 *   rebalance  groups of experts (n_group of the model) are packed onto nodes, each node's experts replicated,
 *              its replicas packed onto its devices. Nodes that do not divide the groups count as one, as do
 *              then the groups.
 *
 * Without replicas `pack` also takes packs of different sizes: place_greedy(). */
#ifndef CHOOSE_BALANCER_H
#define CHOOSE_BALANCER_H

#include <stdint.h>

struct fleet {
    int64_t slots;         /* experts and their replicas, over all devices */
    int64_t groups, nodes; /* of experts; of devices */
    int64_t devices;
};

/* Whether experts and slots divide as the balancer needs them: -1 with error() (status 2). */
int balancer_takes(const struct fleet *f, int64_t experts);
/* map [slots]: the expert in each slot, device by device. A replica has its part of the expert's load. */
void balance_experts(const struct fleet *f, int64_t experts, const double *load, int32_t *map);

/* Every expert once: device i gets room[i] of them, their sum is `experts`. map [experts] as above. */
void place_greedy(int64_t devices, const int64_t *room, int64_t experts, const double *load, int32_t *map);

#endif

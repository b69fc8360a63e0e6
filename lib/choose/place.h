/* SPDX-License-Identifier: MIT */
/* A plan's experts placed by the loads that were measured: `moe-partition place`. */
#ifndef CHOOSE_PLACE_H
#define CHOOSE_PLACE_H

#include <stdio.h>

#include "choose/balancer.h"
#include "model/load_table.h"
#include "plan/plan.h"

enum placement {
    PLACE_CONTIGUOUS,   /* in order, as even in number as can be */
    PLACE_GREEDY,       /* the heaviest first, to the rank with least that has room; as even in number */
    PLACE_HIERARCHICAL, /* with replicas, where there are more slots than experts */
    PLACEMENTS
};
extern const struct words placement_words;

/* What the plan says of the devices of an ep group, for the balancer: nodes are 1 where the group's ranks are
 * not as many on each, one after the other. `slots` 0: the experts. */
struct fleet fleet_of(const struct plan *p, int64_t slots);

/* Whether a model of so many experts can be placed so: -1 with error() (status 2). */
int place_takes(enum placement how, const struct fleet *f, int64_t experts);
/* Sets the plan's slots; its predictions are made anew. The loads must fit and be routed (load_table.h). -1
 * with error() (status 2) when the balancer cannot divide so. */
int place_experts(struct plan *p, const struct load_table *t, enum placement how, const struct fleet *f);

/* How even a plan's ranks are under these loads, each replica having its part: the fullest ep rank over their
 * mean. */
struct evenness {
    double mean, worst; /* over MoE layers */
    int layer;          /* where it is worst */
};
struct evenness place_evenness(const struct plan *p, const struct load_table *t);

/* What it takes to bring every expert to where `to` has it from where `from` has it, both plans of one model
 * and layout: weights to every replica along edp, and what the optimizer keeps. */
struct moves {
    int64_t experts; /* expert and layer that come to an ep rank which lacked them */
    double bytes;    /* over all ranks */
    double
        rank_s; /* of the rank that gets most, over the link that it has to others of its group; NaN unknown */
    double rank_bytes;
    double sum_bytes; /* gradients that a rank would send to the other replicas of its experts, each step */
    double sum_s;
};
struct moves place_moves(const struct plan *from, const struct plan *to);

#endif

/* SPDX-License-Identifier: MIT */
/* Every legal layout of a job, ranked: `moe-partition search`.
 *
 * What is searched: pp, tp, cp, ep, etp (all factors of the number of ranks), microbatch (all factors of a
 * replica's sequences), recompute, ZeRO, schedule, vpp (as long as each virtual stage has a layer), split
 * (even and auto) and order. Legal is what the rules of plan/rules.h say. Orders that put the members of
 * all groups on equally many nodes cost the same: the first of them stands for all, and counts as one
 * layout.
 *
 * A node is what layers' seconds depend on: axes, microbatch, recompute. Its layouts are its leaves. The
 * closed form of a leaf (search_cost.h) is never more than its simulated seconds, and a node's bound never
 * more than any of its leaves'. Nodes are opened in the order of their bounds, until a bound is more than
 * SEARCH_MARGIN times the best that is simulated: so nothing that is pruned could have won, nor come within
 * the margin. All leaves within the margin of the best closed form are then simulated, and any other that
 * could still win.
 *
 * Two threads open the nodes of a round; what is found does not depend on their timing. */
#ifndef CHOOSE_SEARCH_H
#define CHOOSE_SEARCH_H

#include "choose/make.h"
#include "choose/search_cost.h"
#include "cost/seconds.h"

#define SEARCH_MARGIN 1.10

struct layout_search {
    struct request request;
    struct plan base;   /* model, machine, routing, words and batch that all layouts share */
    bool only_runnable; /* leave out what moe-train cannot run (check/limits.h) */
    bool everything;    /* open all nodes and simulate all that fits: to test what pruning leaves out */
    struct splits splits;
    struct curve curve;           /* of the machine's efficiency */
    struct order_spread *spreads; /* of all axes, one after the other */
    int spread_count;
    struct order *orders;
    int order_count;
    struct ways *ways;
    int ways_count;
    struct node *nodes;
    int node_count;
    struct leaf
        *leaves; /* what fits, within the margin; after search_run() ranked, `simulated` of them first */
    int64_t leaf_count;
    int64_t legal, pruned, costed, fit, simulated;
    double best_s; /* simulated; INFINITY while nothing fits */
};

/* r: the job, and what is held fixed. -1 with error(): a cluster that says too little to count seconds
 * with, a fixed value that no layout takes. */
int search_init(struct layout_search *s, const struct request *r);
/* -1 with error() (status 2) when nothing fits, with the least number of ranks that would do. */
int search_run(struct layout_search *s);
void search_release(struct layout_search *s);

/* The plan of a ranked leaf, predictions included; its model is the search's: search_plan_release(), after
 * a failure too. */
int search_plan(const struct layout_search *s, const struct leaf *leaf, const char *made_by, struct plan *p);
void search_plan_release(struct plan *p);

#endif

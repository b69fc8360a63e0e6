/* SPDX-License-Identifier: MIT */
/* Seconds and bytes of a layout from closed forms, and simulated.
 *
 * Span of a pipeline of p stages and m microbatches, b being the whole backward but where W is apart. head_i is
 * Σ f of the virtual stages before i, tail_i Σ b of them, both with a message each; busy_i what pipeline rank i
 * computes in the step:
 *
 *   gpipe       two flow shops of equal jobs, exactly:
 *               Σf + (m−1)·max f + Σb + (m−1)·max b + 2(p−1) messages
 *   the others  max over i of head_i + busy_i + tail_i: rank i cannot begin before its first microbatch has
 *               come through the stages before it, and these wait for the gradient of its last. With split
 *               backwards what a rank does last may be W: the tail then follows the m F and B alone.
 *
 * Neither is more than the simulation gives. Gradients and update are exact (cost/seconds.h). Bytes are
 * arena_bound()'s of the first tp rank of each stage, which has most of the vocabulary. */
#ifndef CHOOSE_SEARCH_COST_H
#define CHOOSE_SEARCH_COST_H

#include "cost/layer.h"
#include "plan/axes.h"
#include "plan/shard.h"

/* Layers of n virtual stages, for all n up to the model's layers, made once. */
struct splits {
    int64_t layers;
    /* [n]: that of split_make(): NULL where it is not searched, or is that of the even split */
    struct stage **even, **automatic;
};

/* How an order spreads groups over nodes. */
struct order {
    char text[32];
    enum axis axes[AXES]; /* of it */
};
struct order_spread {
    const struct order *order;
    struct reach tp, cp, ep, etp, replicas[2]; /* of dense part and experts, of the first stage */
    int64_t pp_stride;
    bool across;  /* stages are on different nodes */
    bool aligned; /* every stage begins a node: replicas are spread alike in all */
};

struct node {
    struct axes axes; /* vpp and order are the leaves' */
    int64_t micro, microbatches;
    enum recompute recompute;
    int first_spread, spreads;
    int ways;       /* index in search.ways */
    int64_t leaves; /* legal */
    double bound_s;
};

/* How the layers go through the pipeline, for all nodes with these. */
struct ways {
    int64_t pp, microbatches;
    enum recompute recompute;
    struct way {
        int16_t vpp;
        int8_t schedule, automatic; /* automatic: split auto, where it differs from even */
    } * list;
    int count;
};

struct leaf {
    int node, spread;
    int16_t vpp;
    int8_t automatic, schedule, zero; /* automatic: split auto */
    double closed_s, step_s;          /* step_s: simulated, NaN before */
    double memory_bytes;
};

/* Under this order, for p's axes. False where the order and the axes break rule axes-pipeline. */
bool spread_make(struct order_spread *s, const struct plan *p, const struct order *o);
/* Whether layers and messages take the same time; all does. */
bool spread_same_layers(const struct order_spread *a, const struct order_spread *b);
bool spread_alike(const struct order_spread *a, const struct order_spread *b);
/* Of the replicas of this stage. */
void spread_replicas(const struct plan *p, const struct order_spread *s, int stage, struct reach replicas[2]);

/* A node opened: the plan of its shape, which the functions below set to a leaf's. */
struct opened {
    struct plan p; /* shares everything with the base but stages, ranks and programs */
    const struct splits *splits;
    const struct node *node;
    struct coords *ranks; /* [pp]: the first rank of each stage */
    struct shards *sizes; /* [pp] elements, of these stages */
    int64_t *rest;        /* [pp] bytes beside what ZeRO changes, of these stages; -1: not counted yet */
    int rest_of;          /* for this schedule; -1 before any */
    struct layer_sizes layers;
    const struct curve *curve; /* of the machine's efficiency; NULL: not read yet */
    struct costing costing;
    struct stage_times *times; /* [stages] */
    double *busy;              /* [pp] */
    struct stage *stages;      /* those of vpp and automatic, 0 before any */
    int64_t vpp;
    bool automatic, sized, costed; /* costed: costing is that of the shape */
};
void opened_init(struct opened *o, const struct plan *base, const struct splits *s, const struct node *n);
void opened_release(struct opened *o);
/* Stages, and with them the sizes of shards. False where no such split is searched. */
bool opened_stages(struct opened *o, int64_t vpp, bool automatic);

/* Seconds of a layer of each kind, then of the ends: what one stage has of both is not the sum, as it waits for
 * the host once. */
enum { END_FIRST, END_LAST, END_BOTH, ENDS };
struct layer_times {
    double f[LAYER_KINDS + ENDS], b[LAYER_KINDS + ENDS], w[LAYER_KINDS + ENDS], all_of[LAYER_KINDS + ENDS];
    double message;
    double all;  /* a microbatch through all layers */
    double room; /* of memory, under this spread: the caller's */
};
int layers_time(struct opened *o, const struct order_spread *s, struct layer_times *t);
/* o->times and o->busy of the stages set. */
void stages_time(struct opened *o, const struct layer_times *t);
/* The least that the span of the schedule set can be. */
double span_closed(const struct opened *o, double message_s);
/* With gradients and update, under the ZeRO set. */
double step_of_span(struct opened *o, const struct order_spread *s, double span_s);
/* What communicators leave of a rank's memory under this order; INFINITY where that is not known. */
double room_of(const struct plan *p, const struct order_spread *s);
/* Of the worst stage, at least (of the first that needs more than there is, where one does); with `exact` by
 * its own program (programs set). */
int memory_closed(struct opened *o, bool exact, double *bytes);
/* Simulated: step and memory of the leaf. */
int leaf_simulate(struct opened *o, const struct order_spread *s, struct leaf *leaf);

#endif

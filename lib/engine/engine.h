/* SPDX-License-Identifier: MIT */
/* The engine: one rank's part of a plan, in memory and ready to run.
 *
 * Reading order: setup.c (what a rank has), layer.c (one layer), attention.c, mlp.c, router.c, dispatch.c,
 * moe.c, head.c (its parts), pipeline.c (the program that strings them together), optimizer.c (what ends a
 * step).
 *
 * Every tensor is device memory: it is touched only by operations of the backend and of comm. A function
 * returns 0, or -1 with error() set when communication or the device failed; then the job can only end. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "backend.h"
#include "base/faults.h"
#include "comm/comm.h"
#include "cost/arena.h"
#include "cost/messages.h"
#include "engine/profile.h"

/* A parameter: its weights and its f32 gradient. */
struct weight {
    void *w;
    float *g;
};

/* The parameters of one local layer. q|k|v and gate|up are one matrix each; experts: gate|up|down of slot 0,
 * the others at a constant stride. */
struct layer {
    bool moe;
    int moe_index;     /* among this rank's MoE layers */
    int64_t mlp_width; /* M/tp of the dense MLP or the shared expert; 0: none */
    struct weight input_norm, qkv, qkv_bias, q_norm, k_norm, o, o_bias, post_norm, router, experts, mlp_gate_up,
        mlp_down, mlp_switch;
    float *router_bias;  /* [E] or NULL */
    const int32_t *slot; /* host [ep+1]: the first slot of each ep rank, and how many there are */
};

/* Where the rows of one MoE layer and microbatch go (dispatch.c). Host tables, filled where ep > 1. A holder is
 * the rank pair (ep, etp) that runs a slot's expert. */
struct dispatch {
    int64_t *send_first; /* [E+1]: first row of each slot in this rank's order of sending */
    int64_t *landing;    /* [E]: where this rank's rows for a slot start in the rows of its holder */
    int64_t *segment;    /* [El·etp·ep+1]: rows here, by local expert, etp rank, ep rank; room for the most */
    int passes;          /* row chunks of the capacity C that the fullest holder needs */
    bool weights_done;   /* weight gradients were computed by backward (several passes) */
};

/* The streams of what goes to another stage and of what comes from it, each in the order of the messages. Of a
 * stage that has one neighbour only, or one on both sides, one is enough. */
struct mail {
    struct stream *out, *in;
    int peer;
};

/* Microbatches' work as graphs of the device: capture.h. */
enum captured_part {
    CAPTURED_FORWARD,
    CAPTURED_EVALUATION,
    CAPTURED_BACKWARD,
    CAPTURED_WEIGHTS,
    CAPTURED_FRESH_BACKWARD, /* of the step's first microbatch: the engine's `fresh` */
    CAPTURED_FRESH_WEIGHTS,
    CAPTURED_PARTS
};
struct capture {
    char off[200];          /* why there are none; "": there are */
    struct captured *parts; /* [stashes][CAPTURED_PARTS] */
    int64_t runs;           /* of graphs, in this step */
};

/* What is summed or gathered at once over the replicas of parameters: buckets.h. Moments are operations of the
 * program times `parts`, and a part of one. */
struct bucket {
    enum flat flat;
    int64_t index;
    int64_t needed, done; /* when the first of its weights is used, when the last of its gradients is whole */
    struct event *gathered;
};
struct buckets {
    struct stream *s;       /* theirs; NULL: the plan cuts none */
    struct event *ready;    /* in the stream that computes: what is to be summed or gathered */
    struct event *summed;   /* in s: all of the step */
    struct bucket *list;    /* in the order of the sums */
    struct bucket **needed; /* of those whose weights are gathered, in the order of the gathers */
    int64_t *done;          /* [shards.count]: when the gradient of each is whole */
    int count, gathers;
    int64_t parts, now, first; /* first: when the first gradient is whole */
    bool beside;               /* this step's are in s */
    int sums, waits;           /* so many of list have been queued, of needed awaited */
    int64_t shared;            /* tensor-parallel ranks have summed what was whole by then */
};

struct engine {
    const struct plan *plan;
    const struct model *model;
    int rank;
    struct coords at;
    const struct backend *be;
    struct stream *s;
    struct stream *side;      /* counts come down here, beside what s is doing */
    struct event *routed;     /* counts of rows are there */
    struct stream *rows;      /* with overlap the rows of experts travel here, beside what s is doing */
    struct event *packed;     /* in s: what is to travel is there, and the place where it comes to is free */
    struct event *landed;     /* in rows: it has travelled */
    struct mail mail[2];      /* of the stages before and after */
    struct event *ready;      /* in s: what is to be sent is there, or the place for what is to come */
    struct event **delivered; /* [messages.count] in mail: the message has come, or gone */
    struct comm_times *times; /* [messages.count] of those that come */
    struct comm *comm;
    struct group *group[GROUP_KINDS]; /* NULL where the plan has none */
    struct shards shards;
    struct arena arena;
    struct workspace *ws; /* &arena.ws */
    void *memory;

    enum type type; /* of weights and activations */
    int64_t T, n, H, E, K;
    int tp, ep, etp;      /* sizes */
    struct layer *layers; /* [model layers]; only local ones are filled */
    int moe_layers;       /* local ones */
    struct weight embed, final_norm, head;
    struct stage_queue messages; /* this stage's */
    struct dispatch *dispatch;   /* [stashes][layers of a stage, widest] */
    int dispatch_stride;
    int32_t *counts;                /* host scratch [etp,ep,E] */
    int64_t *blocks;                /* host scratch [etp·ep+1] */
    struct comm_piece *send, *recv; /* host scratch for exchanges, a piece a peer */

    struct step_state *figures; /* on the host: what came down of the step (totals.h) */
    double overflow;            /* layers × microbatches of the step that needed several passes */
    struct profile profile;
    bool replay;   /* a forward repeated for its activations: counts nothing, sends no results */
    bool evaluate; /* forward only */
    bool split;    /* the program leaves weight gradients to operations of their own */
    bool fresh;    /* the chunk's first operation of its kind in the step: gradients that it adds to hold no
                      sum yet, but what the step before left, and are overwritten (linear.h) */
    bool overlap;  /* communication goes beside computation; fixed in a run */
    bool held;     /* nothing hides it, messages between stages either, which otherwise always go beside */
    struct capture capture;
    struct buckets buckets;
    double loss_scale, aux_scale; /* 1/(tokens of the global batch), 1/(microbatches of the global batch) */
    double loss_coef[ROUTER_LOSSES];
    int64_t step, microbatch; /* for the routing dump: of the whole batch */
    void *routing_dump;       /* FILE *, or NULL */
    const char *logits_path;  /* write the logits of the first microbatch here, once */
};

#endif

/* SPDX-License-Identifier: MIT */
/* The engine: one rank's part of a plan, in memory and ready to run.
 *
 * Reading order: setup.c (what a rank has), layer.c (one layer), attention.c, mlp.c, router.c, dispatch.c,
 * moe.c, head.c (its parts), pipeline.c (the program that strings them together), optimizer.c (what ends a
 * step), loop.c (the run).
 *
 * Every tensor is device memory: it is touched only by operations of the backend and of comm. A function
 * returns 0, or -1 with error() set when communication or the device failed; then the job can only end. */
#ifndef TRAIN_ENGINE_H
#define TRAIN_ENGINE_H

#include "backend.h"
#include "comm/comm.h"
#include "plan/arena.h"
#include "train/faults.h"
#include "train/profile.h"

#define TRY(call)                                                                                              \
    do {                                                                                                       \
        if ((call) < 0)                                                                                        \
            return -1;                                                                                         \
    } while (0)

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
    struct weight input_norm, qkv, qkv_bias, q_norm, k_norm, o, post_norm, router, experts, mlp_gate_up,
        mlp_down, mlp_switch;
    float *router_bias; /* [E] or NULL */
};

/* Where the rows of one MoE layer and microbatch go (dispatch.c). Host tables. A host is the rank pair (ep,
 * etp) that runs a slot's expert. */
struct dispatch {
    int64_t *send_first; /* [E+1]: first row of each slot in this rank's order of sending */
    int64_t *landing;    /* [E]: where this rank's rows for a slot start in the rows of its host */
    int64_t *segment;    /* [El·etp·ep+1]: rows here, by local expert, etp rank, ep rank */
    int passes;          /* row chunks of the capacity C that the fullest host needs */
    bool weights_done;   /* weight gradients were computed by backward (several passes) */
};

/* Sums over the microbatches of a step, this rank's share. */
struct totals {
    double loss;     /* Σ over tokens of cross-entropy; last stage */
    double aux, z;   /* Σ over microbatches and layers; counted on tp rank 0 */
    double dropped;  /* choices cut by capacity */
    double overflow; /* layers × microbatches that needed several passes */
    float *loads;    /* [local MoE layers,E] choices, of this tp group's tokens */
};

struct engine {
    const struct plan *plan;
    const struct model *model;
    int rank;
    struct coords at;
    const struct backend *be;
    struct stream *s;
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
    struct dispatch *dispatch; /* [slots][layers of a stage, widest] */
    int dispatch_stride;
    int32_t *counts;                /* host scratch [etp,ep,E] */
    struct comm_piece *send, *recv; /* host scratch for exchanges */
    int piece_room;

    struct totals totals;
    struct profile profile;
    bool replay;                  /* a forward repeated for its activations: counts nothing, sends no results */
    bool evaluate;                /* forward only */
    double loss_scale, aux_scale; /* 1/(tokens of the global batch), 1/(microbatches of the global batch) */
    double aux_coef, z_coef;
    int64_t step, microbatch; /* for the routing dump: of the whole batch */
    void *routing_dump;       /* FILE *, or NULL */
    const char *logits_path;  /* write the logits of the first microbatch here, once */
};

/* ---- setup.c ---- */
/* Allocates the arena, makes the groups, uploads tables. plan, be and comm stay the caller's and must outlive
 * the engine. */
int engine_init(struct engine *e, const struct plan *plan, const struct backend *be, struct stream *s,
                struct comm *comm);
void engine_release(struct engine *e);
/* Initial weights: each tensor from its own stream of numbers, so that every layout starts from the same model.
 */
int engine_init_weights(struct engine *e, uint64_t seed);

/* ---- shared helpers (parallel.c) ---- */
/* The tp group's [T,·] matrix from this rank's [n,·] part; x itself when tp is 1. `width` elements a row. NULL
 * on error. */
const void *tp_gather(struct engine *e, const void *x, void *buffer, int64_t width);
/* Where a row-parallel product goes before tp_reduce: ws.partial, or `out` itself when tp is 1. */
void *tp_partial(struct engine *e, void *out);
/* out [n,H] = this rank's part of the sum of the tp group's ws.partial. */
int tp_reduce(struct engine *e, void *out);
/* Y = X·Wᵀ; dX (+)= dY·W; dW += dYᵀ·X, for X [rows,k], Y [rows,n] and W [n,k], all dense, of the engine's type.
 */
void linear(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *x, const void *w, void *y);
void linear_input(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *w,
                  void *dx);
void linear_weight(struct engine *e, int64_t rows, int64_t n, int64_t k, const void *dy, const void *x,
                   float *dw);
/* Backward of a small f32 head (router, shared expert's gate): w.g += dyᵀ·x and dx += dy·w for dy [n,width]
 * f32, x and dx [n,H]. */
void linear_f32_backward(struct engine *e, int64_t width, const float *dy, const struct weight *w,
                         const void *x, void *dx);
void add_into(struct engine *e, int64_t count, void *y, const void *x); /* y += x */

/* ---- one layer; `i` is its index in the slot ---- */
int layer_forward(struct engine *e, struct slot *slot, int i);
/* d [n,H]: gradient of the layer's output, turned into that of its input. split: weight gradients are left to
 * layer_weights(). */
int layer_backward(struct engine *e, struct slot *slot, int i, void *d, bool split);
int layer_weights(struct engine *e, struct slot *slot, int i);

int attention_forward(struct engine *e, struct layer *w, struct acts *a, const void *x);
int attention_backward(struct engine *e, struct layer *w, struct acts *a, const void *x, void *d, bool split);
int attention_weights(struct engine *e, struct layer *w, struct acts *a);

/* out (+)= MLP(a->h2); backward adds to ws.dh; d_out is the gradient of the output. */
int mlp_forward(struct engine *e, struct layer *w, struct acts *a, void *out);
int mlp_backward(struct engine *e, struct layer *w, struct acts *a, const void *d_out, bool split);
int mlp_weights(struct engine *e, struct layer *w, struct acts *a, const void *d_out);
void mlp_refill(struct engine *e, struct layer *w, struct acts *a);

int router_forward(struct engine *e, struct layer *w, struct acts *a, int layer);
void router_backward_input(struct engine *e, struct layer *w, struct acts *a);

int moe_forward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, int layer, void *out);
int moe_backward(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d, const void *d_out,
                 bool split);
int moe_weights(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);
int moe_refill(struct engine *e, struct layer *w, struct acts *a, struct dispatch *d);

/* ---- dispatch.c ---- */
void dispatch_init(struct engine *e, struct dispatch *d);
void dispatch_release(struct dispatch *d);
/* After the choices are sorted into a->position and a->source and counted in ws.counts: who sends how many rows
 * where. */
int dispatch_route(struct engine *e, struct dispatch *d);
/* rows of this pass ← x [n,H] of all ranks of the ep × etp group; weight (or NULL) likewise from a->weight to
 * `weight` [C]. */
int dispatch_rows(struct engine *e, struct acts *a, struct dispatch *d, int pass, const void *x, void *rows,
                  float *weight);
/* Results of this pass start back: sums over etp, then to the ranks they came from, into ws.back. rows and
 * weight are destroyed. */
int combine_rows(struct engine *e, struct dispatch *d, int pass, void *rows, float *weight);
/* y [n,H] = sum of each token's results after the last pass; `rows` are the results themselves when nothing was
 * sent. d_weight (or NULL) [n,K] likewise. */
void combine_tokens(struct engine *e, struct acts *a, struct dispatch *d, const void *rows, const float *weight,
                    void *y, float *d_weight);
/* Rows of this pass by local expert: row[El+1] for the grouped products. */
void dispatch_segments(const struct engine *e, const struct dispatch *d, int pass, int64_t *row);

/* ---- head.c ---- */
int embed_forward(struct engine *e, struct slot *slot);
int embed_backward(struct engine *e, struct slot *slot, const void *d);
/* Final norm, head and loss of x [n,H]; unless evaluating, x becomes its gradient. */
int head_step(struct engine *e, struct slot *slot, void *x);

/* ---- pipeline.c ---- */
/* Runs a program over the step's microbatches. tokens: this dp rank's [microbatches][micro][S+1] (first and
 * last stage; else ignored). Gradients and totals add up. */
int pipeline_run(struct engine *e, const struct program *g, const int32_t *tokens);

/* ---- loads.c: totals.loads, the step's choices of every expert in the local MoE layers ---- */
int loads_sum(struct engine *e);                   /* over dp: then they are the whole batch's */
int loads_collect(struct engine *e, float *loads); /* of all stages, to rank 0's [MoE layers of the model,E] */
/* Aux-loss-free balancing (DeepSeek-V3, arXiv 2412.19437): bias += rate · sign(mean load − load), after
 * loads_sum(). */
int loads_update_bias(struct engine *e, double rate);

/* ---- optimizer.c ---- */
struct hyper {
    double lr, beta1, beta2, eps, weight_decay;
};
/* Gradients summed over every rank that has a part of them. whole: leave all of them on every replica, not just
 * this one's slice. */
int gradients_reduce(struct engine *e, bool whole);
int gradients_square(struct engine *e, double *sum); /* this rank's share of ‖g‖² */
int optimizer_update(struct engine *e, const struct hyper *h, int64_t step, double grad_scale);
void gradients_zero(struct engine *e);

#endif

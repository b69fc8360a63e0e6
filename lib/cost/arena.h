/* SPDX-License-Identifier: MIT */
/* Everything a rank keeps in device memory, laid out by one function in one block.
 *
 * arena_layout() is called with no memory by moe-partition, to count the bytes, and with memory by moe-train,
 * to use them: so what the plan predicts is what runs. Shapes: n local tokens of a microbatch (sequence
 * parallel: T/tp), T = seq·micro, H hidden, E experts, K top-k; q and kv are this tp rank's projection widths,
 * F' = F/etp, C rows reserved for the local experts (skew λ included), El the most experts that a rank has of
 * a layer, Q = ep·etp sources of their rows. "act" is the plan's type; `row` is one as it travels: H of act,
 * and its weight in f32 at the end. */
#ifndef COST_ARENA_H
#define COST_ARENA_H

#include "base/losses.h"
#include "ops.h"
#include "plan/plan.h"
#include "plan/shard.h"
#include "plan/states.h"

/* What changes with the step, in one piece of device memory so that it comes down at once: sums over the
 * step's microbatches, and how its gradients are applied. Everyone's totals can be added up as they are: each
 * is counted on one rank of those that know it. Doubles and nothing else. */
struct totals {
    double square;                     /* ‖g‖² */
    double loss;                       /* Σ over tokens of cross-entropy */
    double router_loss[ROUTER_LOSSES]; /* Σ over microbatches and layers */
    double dropped;                    /* choices cut by capacity */
};
struct step_state {
    struct totals totals;
    struct update update;
    float loads[]; /* [local MoE layers,E] choices, of this tp group's tokens */
};

/* What one layer keeps of one microbatch from forward to backward. With recompute selective or full some of the
 * pointers are shared by all layers, and backward fills them again. */
struct acts {
    void *h;      /* [n,H] act: after the input norm */
    void *qkv;    /* [T,q+2kv] act: after norms and RoPE. W: the gradient */
    void *qk_raw; /* [T,q+kv] act: before the q/k norms; NULL without */
    float *qk_ss; /* [2,T]: sums of squares of a norm over the whole projection; NULL without */
    void *o;      /* [T,q] act: attention output */
    float *lse;   /* [heads/tp,T] */
    void *x2;     /* [n,H] act: after attention. W: gradient of it */
    void *h2;     /* [n,H] act: after the second norm */

    float *logits;              /* [n,E] router */
    float *scores;              /* [n,E]. After backward: gradient of the logits */
    float *rlse;                /* [n] logsumexp of the logits */
    int32_t *topk;              /* [n,K] */
    float *weight;              /* [n,K] */
    float *aux;                 /* [E] gradient of the auxiliary loss to each token's probabilities */
    int32_t *position, *source; /* [n,K], [n·K]: where each choice is in the order of sending, and back */
    int32_t *first;             /* [E+1]: each slot's first row in that order */
    int32_t *arrived;           /* [Q,El] rows from each source for each local expert; NULL with Q = 1 */
    void *rows;                 /* [C,H] act: dispatched rows */
    float *row_weight;          /* [C] */
    void *gate_up;              /* [C,2F'] act. W: the gradient */
    void *act;                  /* [C,F'] act */
    void *dy_rows;              /* [C,H] act: gradient of the rows' outputs */

    void *latent;      /* [n,ranks of q and of k|v, RoPE's part] act, in latent attention; for planning only */
    void *mlp_gate_up; /* [T,2M/tp] act, M the width of the dense MLP or the shared expert */
    void *mlp_act;     /* [T,M/tp] */
    void *mlp_out;     /* [n,H] act: shared expert before its sigmoid gate; NULL without a gate */
    float *mlp_gate;   /* [n]: that gate's logit */
};

/* The activations of one microbatch in one virtual stage, from its forward to the end of its backward. */
struct stash {
    int stage;          /* index in plan->stages */
    int64_t begin, end; /* bytes, in the activation region */
    struct acts *acts;  /* [layers] */
    void **x; /* [layers+1] → [n,H] act: input of each layer; the last is the stage's output, then the running
                 gradient */
    int32_t *tokens;  /* [T], first stage */
    int32_t *targets; /* [T], last stage */
};

struct workspace {
    void *gather, *gather_d;      /* [T,H] act: all-gathered inputs, gradients (tp > 1) */
    void *partial;                /* [T,H] act: before a reduce-scatter (tp > 1) */
    void *branch, *dh, *keep_d;   /* [n,H] act */
    void *dqkv, *d_o;             /* [T,q+2kv], [T,q] act */
    float *delta;                 /* [heads/tp,T] */
    float *norm_sums;             /* [T] for norms that span ranks */
    void *send, *back;            /* [n·K] rows: permuted, and results on their way back (ep > 1) */
    void *wire;                   /* [wire_rows] rows as they come and go (Q > 1) */
    void *y_rows;                 /* [C,H] act: results or gradients of rows; dy_rows where that is shared */
    float *d_row_weight;          /* [C] */
    void *peer_rows;              /* [C+etp] rows: the etp group's partial sums (etp > 1) */
    int32_t *row, *to, *from;     /* [El+1], [Q·El+1], [Q·El]: struct arrivals (Q > 1) */
    void *d_act;                  /* [C,F'] or [T,M/tp] act */
    float *d_weight;              /* [n,K] */
    int32_t *counts, *all_counts; /* [E]; [etp,ep,E] */
    float *stats;                 /* [2E+1] */
    float *margin;                /* [n] */
    float *router_w;              /* [E,H] f32 copies for bf16 plans */
    float *h2_f32;                /* [n,H] f32 */
    int32_t *all_topk, *all_keep; /* [T,K], with a capacity factor */
    float *all_weight;            /* [T,K] */
    float *dropped;               /* [1] */
    void *mlp_d_act;              /* [T,M/tp] act */
    void *mlp_dy;                 /* [n,H] act: gradient of a gated shared expert's output */
    float *mlp_dg;                /* [n] */
    float *logits;                /* [T,V/tp] f32 */
    void *dlogits;                /* [T,V/tp] act (f32: logits itself) */
    float *ce_stats;              /* [1+tp,T,3] */
    float *losses;                /* [T] */
    double *scalar;               /* [1] */
    void *comm;                   /* scratch for sums */
    int64_t comm_bytes;
    void *buckets; /* the same for those of buckets, beside them; NULL in plans that cut none */
    int64_t buckets_bytes;
    void *scratch; /* of the stream that computes (scratch.h); NULL in plans for machines without a device */
    int64_t scratch_bytes;
};

/* Bytes of it, by what they are for. */
struct memory {
    int64_t weights, gradients, optimizer; /* optimizer: the states of plan/states.h */
    int64_t activations;                   /* kept from forward to backward, all microbatches in flight */
    int64_t workspace;                     /* shared by all layers, with the next four: */
    int64_t head, dispatch, communication; /* logits and loss; rows under way; scratch for sums */
    int64_t scratch;                       /* of a device's operations */
    int64_t total;
};
struct arena {
    void *weights[FLATS];
    float *grad[2];          /* [padded], of FLAT_DENSE and FLAT_EXPERT */
    float *state[STATES][2]; /* [sliced]; NULL where the plan does not keep it (states.h) */
    float *cos_sin;          /* [S,rotary] */
    int32_t *slot_of;        /* [layers,E] */
    struct step_state *step;
    int64_t step_bytes; /* of it, loads included */
    struct stash *stashes;
    int stash_count;
    int *stash_of_op; /* [chunk·microbatches + microbatch] → stash */
    struct workspace ws;
    int64_t tokens, local_tokens, row_capacity; /* T, n, C */
    int64_t wire_rows, wire_bytes;              /* rows that can come at once; bytes of one with its weight */
    int64_t q, kv, heads, kv_heads, ffn, mlp;   /* this rank's q and kv widths, heads, F', widest M/tp */
    int64_t o; /* width of attention's output: q but in models that are only planned (latent attention) */
    int64_t vocab_first, vocab; /* this rank's part of the vocabulary */
    struct memory bytes;
    struct acts *acts_block; /* owned host tables */
    void **x_block;
};

/* The version of the layout: it rises when the same plan comes to other bytes, so that a plan whose memory
 * another version counted is known for what it is (rule predict-matches). 2: rows as they travel, scratch of
 * 4 MiB, rows reserved by the capacity alone. 3: gradients and moments in bf16, zero 2 and 3, latent and
 * linear attention; plans for devices have the scratch of their operations. 4: what communicators
 * take is counted beside it (communicators.h). */
enum { ARENA_VERSION = 4 };

/* Lays the rank's memory out from `base` (aligned as by alloc(); NULL: only count, all device pointers are then
 * meaningless, and stashes have places but no acts and x). a->bytes.total is what is needed. -1 with error()
 * if the plan's program or sizes do not allow it. */
int arena_layout(struct arena *a, const struct plan *p, int rank, const struct shards *s, void *base);
/* The total from the shape alone, where ranks, groups and programs are not made yet. It is that of the layout
 * where all chunks of the rank keep the same bytes (with vpp 1, always). Where they differ it has what the
 * first forwards keep, as many as are held at once and pp of a chunk in turn: at most what is laid out. */
int arena_bound(const struct plan *p, const struct coords *at, const struct shards *s, int64_t *bytes);
/* Of it, weights, gradients and states: all that ZeRO changes. */
int64_t arena_parameters(const struct plan *p, const struct coords *at, const struct shards *s);
void arena_release(struct arena *a);

#endif

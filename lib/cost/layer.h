/* SPDX-License-Identifier: MIT */
/* Seconds of one layer for one microbatch on one rank, by what they go to.
 *
 * n local tokens (T/tp), T those of the tp group; q, k, v and the other matrices as the inventory has them,
 * cut over tp; R = n·K·etp·λ rows for E/ep local experts; where ranks have more or fewer, for the most that one
 * has, and as many more rows. Forward, of matrices of M×N weights: 2·T·M·N
 * operations. Backward has two products of that size: one in B, one in W. A product of w operations takes
 * max(w/(peak·share(w)), its bytes/bandwidth); share is the cluster's efficiency (curve.h), taken of each
 * expert's product alone.
 *
 * Processors do not load while they multiply: there a product takes the sum of the two, with the bytes of the
 * weight alone, as the tokens of a microbatch stay in caches (weight_bytes()).
 *
 * Attention's scores and values: 2·T·keys·heads·(score + value width) operations, keys half the sequence or
 * the window; 2.5 times as many backward, as it computes the scores again (Dao, FlashAttention-2, section
 * 3.1). It reaches ATTENTION_SHARE of the peak forward, …_BACK backward (FlashAttention-2 on A100: 0.73 and
 * 0.63; -3 on H100 in bf16: 0.65 and 0.57: the lower ones, causal). A gated delta net in chunks is a row of
 * small products: LINEAR_SHARE.
 *
 * Bound by memory, in bytes of which a device moves MEMORY_SHARE of its bandwidth: norms, residuals, RoPE,
 * SwiGLU, and the rows copied for the experts and back; twice that backward.
 *
 * Communication. tp with sequence parallelism: all-gather and reduce-scatter around attention, a dense MLP
 * and the shared expert forward; two and the input's again backward (Korthikanti et al., arXiv 2205.05198,
 * section 4.2.2). Experts: dispatch and combine, both ways; with etp an all-gather and a reduce-scatter of
 * all rows beside each.
 *
 * Overlap: of the experts' rows, both ways and with etp's part of it, that is left which the products that
 * moe-train computes beside them do not cover (layer.c); of fused dispatch, which is other trainers', what no
 * computing of another microbatch covers, a tenth at least.
 *
 * Recompute: selective repeats what memory bounds, full the whole forward with its communication, in B.
 *
 * fp8: each product first quantises what comes in, which reads bf16 and writes it twice, as rows and as
 * columns; half as many operations more.
 *
 * Host: a processor starts OPS_… operations, the cluster's host_s each, twice as many backward; a pass takes
 * no less. They are those of trainers on PyTorch (Megatron-LM, counted in round numbers), where layers of
 * small experts are bound by it. */
#ifndef COST_LAYER_H
#define COST_LAYER_H

#include "cost/curve.h"
#include "cost/links.h"
#include "plan/plan.h"

#define MEMORY_SHARE         0.85
#define ATTENTION_SHARE      0.60
#define ATTENTION_SHARE_BACK 0.50
#define LINEAR_SHARE         0.20
enum {
    OPS_ATTENTION = 50,
    OPS_MLP = 20,
    OPS_MOE = 100,
    OPS_EXPERT = 4, /* each local expert */
    OPS_ALLTOALL = 120,
    OPS_FUSED_DISPATCH = 60,
    OPS_ENDS = 30,
};

enum part {
    PART_MATRIX,    /* matrices of the dense part */
    PART_ATTENTION, /* scores and values; linear attention's state */
    PART_EXPERTS,
    PART_MEMORY, /* what memory bounds */
    PART_HEAD,   /* logits and loss */
    PART_TP,     /* communication of tp, cp and etp */
    PART_DISPATCH,
    PART_HOST, /* what the host is longer at than all else */
    PARTS
};
extern const char *const part_name[PARTS]; /* for people: "dense products" … */

/* B computes gradients of inputs, W of weights; where a program has no W, B is both. */
enum pass { PASS_F, PASS_B, PASS_W, PASSES };
struct layer_cost {
    double s[PASSES][PARTS];
};

/* What costs of one rank of a plan are counted by. */
struct costing {
    const struct plan *p;
    double lambda; /* of the rank with most experts, over the mean of all */
    double local;  /* its experts */
    double rate;   /* operations a second of products; of attention */
    double attend;
    struct curve curve;
    double dense_s[LAYER_KINDS]; /* products of the dense part, 0 before the first layer of the kind */
    struct reach tp, cp, ep, etp;
    double n, T, e; /* tokens; bytes of an element */
};
/* For the ranks of pipeline rank pp. 0, or -1 with error() (a malformed efficiency). `rate` is NaN where the
 * machine says too little to count with. */
int costing_init(struct costing *c, const struct plan *p, int pp, double lambda);

/* The same from the shape alone, with groups of one rank, over which nothing takes time: for the caller to set.
 * curve: that of the plan's efficiency, or NULL. */
int costing_of_shape(struct costing *c, const struct plan *p, double lambda, const struct curve *curve);

/* Of a weight of n·k elements of e bytes, what a product of processors loads and stores, the mean of its three
 * uses: two read it, and the third adds to its gradient in f32. */
double weight_bytes(double e, double n, double k);

void cost_of_layer(struct costing *c, int64_t layer, struct layer_cost *out);
/* The embedding (first) and final norm, head and loss (last). */
void cost_of_ends(const struct costing *c, bool first, bool last, struct layer_cost *out);
/* Seconds of a pass: the sum of its parts. */
double pass_s(const struct layer_cost *c, enum pass pass);

#endif

/* SPDX-License-Identifier: MIT */
/* The operations a backend provides. Each takes one struct; the structs are the manual.
 *
 * Symbols: T tokens, S sequence, H hidden, F expert width, E experts, K top-k, V vocabulary, R routed rows.
 * Matrices are row-major; `ld` is the distance between rows in elements. "act" pointers (void *) hold
 * elements of the struct's `type`; arithmetic is f32 whatever the type. No aliasing unless a comment allows it.
 * Any count may be 0: the operation then does nothing (with beta 0 a matmul still writes its zeros).
 * All results are deterministic: the same inputs, threads and machine give the same bits.
 *
 * A new operation is a struct here with its place in BACKEND_OPS, loops in kernels/ref, what it touches
 * (access.h), and an example in t/lib/operations.h. */
#ifndef KERNELS_OPS_H
#define KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum type { F32, BF16 };
static inline size_t type_bytes(enum type t)
{
    return t == F32 ? 4 : 2;
}

/* C[M,N] = op(A)·op(B) + beta·C. op(A) is [M,K], op(B) is [K,N]; `ta` says that A is stored [K,M], `tb` that B
 * is stored [N,K]. beta is 0, and then what was in C does not matter, or 1. Types of a and b are equal (`in`);
 * with in F32, out is F32. The three uses: Y = X·Wᵀ (tb), dX = dY·W (neither), dW = dYᵀ·X + beta·dW (ta, out
 * F32). */
struct matmul {
    int64_t m, n, k;
    bool ta, tb;
    const void *a;
    int64_t lda;
    const void *b;
    int64_t ldb;
    void *c;
    int64_t ldc;
    float beta;
    enum type in, out;
};

/* ---- rows whose number only the device knows ----
 *
 * How many rows a router sends is the router's result: the host learns it late or never. Operations on such
 * rows take `rows`, a bound that the host knows (the rows that were reserved), and read on the device how many
 * there are: from `count` (NULL: `rows`), or from the last of their offsets. Rows beyond are neither read nor
 * written, and a number above the bound counts as the bound. */

/* One matmul an expert over rows gathered by expert (grouped GEMM, Megablocks arXiv 2211.15841). Expert i has
 * rows [row[i], row[i+1]) of x and y, and weight number i. `stride`: elements from one weight to the next.
 *   GROUPED_FORWARD  y[r, n] = x[r, k] · W[n,k]ᵀ          W: [n,k] of `type`
 *   GROUPED_INPUT    x[r, k] = y[r, n] · W[n,k]           (y given, x written)
 *   GROUPED_WEIGHT   W[n,k] = y[r, n]ᵀ · x[r, k] + beta·W[n,k]   W: f32 gradients; beta is 0 or 1 */
enum grouped_kind { GROUPED_FORWARD, GROUPED_INPUT, GROUPED_WEIGHT };
struct grouped_matmul {
    enum grouped_kind kind;
    int64_t experts, rows;
    const int32_t *row; /* [experts+1], ascending */
    int64_t n, k;
    void *x; /* [rows,k], ldx */
    int64_t ldx;
    void *y; /* [rows,n], ldy */
    int64_t ldy;
    void *w;
    int64_t stride;
    float beta;     /* of GROUPED_WEIGHT; with 0 an expert without rows gets zeros */
    enum type type; /* of x, y and (but for GROUPED_WEIGHT) w */
};

/* RMSNorm (arXiv 1910.07467): y = x · rstd(x) · w, rstd = 1/sqrt(mean(x²) + eps), over `width` elements at
 * x + row·ldx + head·width, for rows × heads; w [width] of `type` is shared by rows and heads. y may be x.
 * clip > 0 then clamps y to [-clip, clip] (OLMoE). sumsq: NULL, or [rows] f32 with the sum of squares over the
 * whole norm, which then is over `full_width` elements of which these are a part (a tensor-parallel rank's):
 * heads = 1. */
struct rmsnorm {
    int64_t rows, heads, width;
    const void *x;
    int64_t ldx;
    const void *w;
    void *y;
    int64_t ldy;
    float eps, clip;
    const float *sumsq;
    int64_t full_width;
    enum type type;
};
/* dx = (accumulate ? dx : 0) + d(rmsnorm)/dx · dy; dw[width] f32 += over rows and heads. Same x, w, eps, clip
 * as forward (where the clamp cut, dy counts as 0). dx may be dy. With sumsq: dot [rows] f32 is Σ dy·w·x over
 * the whole norm. */
struct rmsnorm_backward {
    int64_t rows, heads, width;
    const void *x;
    int64_t ldx;
    const void *w;
    const void *dy;
    int64_t lddy;
    void *dx;
    int64_t lddx;
    float *dw;
    bool accumulate;
    float eps, clip;
    const float *sumsq, *dot;
    int64_t full_width;
    enum type type;
};
/* Partial sums for a norm that spans ranks, each [rows] f32: sumsq = Σ x²; with dy also dot = Σ dy·w·x, dy
 * counting as 0 where the clip cut (that needs the whole sumsq, given as sumsq_in, full_width and eps). NULL
 * outputs are skipped. */
struct row_sums {
    int64_t rows, width;
    const void *x;
    int64_t ldx;
    float *sumsq;
    const void *dy;
    int64_t lddy;
    const void *w;
    float *dot;
    const float *sumsq_in;
    int64_t full_width;
    float eps, clip;
    enum type type;
};

/* Rotary embedding, rotate-half form (as in transformers), in place on `heads` heads of x + t·ld +
 * head·head_dim, over the first `rotary` of head_dim elements: pairs (i, i+rotary/2). Position of row t is t
 * mod seq. cos_sin: [seq, rotary] f32, cosines of the rotary/2 angles and then their sines. inverse: rotate
 * back (the gradient). */
struct rope {
    int64_t rows, seq, heads, head_dim, rotary;
    void *x;
    int64_t ld;
    const float *cos_sin;
    bool inverse;
    enum type type;
};

/* Causal grouped-query attention, FlashAttention-2 form (arXiv 2307.08691): nothing S×S is ever stored.
 * Row t = sequence·seq + position. q is [rows, heads·dim] at ldq; k and v [rows, kv_heads·dim] at ldk, ldv; o
 * [rows, heads·dim] at ldo. Query head h reads key head h / (heads/kv_heads). lse [heads, rows] f32: logsumexp
 * of the scaled scores. scale > 0. Where a backend multiplies bf16, probabilities and gradients of scores are
 * rounded to it before they are multiplied. */
struct attention {
    int64_t sequences, seq, heads, kv_heads, dim;
    const void *q, *k, *v;
    int64_t ldq, ldk, ldv;
    void *o;
    int64_t ldo;
    float *lse;
    float scale;
    enum type type;
};
/* dq, dk, dv (laid out as q, k, v with the same ld) from d_o (as o). delta: scratch [heads, rows] f32.
 * dq may be q, dk may be k and dv may be v only if the backend says so: it does not; they are separate. */
struct attention_backward {
    struct attention fwd; /* q k v o lse as the forward left them */
    const void *d_o;
    int64_t lddo;
    void *dq, *dk, *dv;
    float *delta;
};

/* SwiGLU over rows of [gate | up]: y[r,f] = weight[r] · silu(gate[r,f]) · up[r,f]; weight NULL means 1.
 * gate_up: [rows, 2·width]; y: [rows, width]. */
struct swiglu {
    int64_t rows, width;
    const int32_t *count;
    const void *gate_up;
    const float *weight;
    void *y;
    enum type type;
};
/* d_gate_up (may be gate_up itself) and, where not NULL, d_weight[r] = Σ_f dy·silu(gate)·up. */
struct swiglu_backward {
    int64_t rows, width;
    const int32_t *count;
    const void *gate_up;
    const float *weight;
    const void *dy;
    void *d_gate_up;
    float *d_weight;
    enum type type;
};

/* y = a + b, elementwise; y may be a or b. With `parts` > 1, y = a + Σ_i b[i·count …] in order, a NULL meaning
 * 0: the sum of a reduce-scatter, f32 inside, rounded once. */
struct add {
    int64_t count;
    const void *a, *b;
    int parts;  /* 0 counts as 1 */
    int before; /* how many of them come before a */
    void *y;
    enum type type;
};
/* y += Σ_i b[i·count …] over `parts`, in order; f64. */
struct add_f64 {
    int64_t count;
    int parts;
    const double *b;
    double *y;
};
/* x[r,c] += bias[c], in place. */
struct bias {
    int64_t rows, width;
    void *x;
    int64_t ldx;
    const void *bias;
    enum type type;
};
/* d_bias[c] f32 += Σ_r dy[r,c]. */
struct bias_backward {
    int64_t rows, width;
    const void *dy;
    int64_t lddy;
    float *d_bias;
    enum type type;
};
/* Clamp to [-limit, limit] in place; backward: dx = 0 where |x| >= limit (x as clamped). */
struct clamp {
    int64_t rows, width;
    void *x;
    int64_t ldx;
    float limit;
    enum type type;
};
struct clamp_backward {
    int64_t rows, width;
    const void *x;
    int64_t ldx;
    void *dx;
    int64_t lddx;
    float limit;
    enum type type;
};
/* y[r,c] = x[r,c] with other strides: columns cut out of, or put into, a wider matrix. */
struct copy_rows {
    int64_t rows, width;
    const void *x;
    int64_t ldx;
    void *y;
    int64_t ldy;
    enum type type;
};
/* y[i] = x[i] with a change of type (bf16 rounds to nearest even), times scale. */
struct convert {
    int64_t count;
    const void *x;
    void *y;
    enum type from, to;
    float scale;
};
/* Gate of a shared expert (Qwen2-MoE): y[t,:] = sigmoid(g[t]) · x[t,:]; g [rows] f32. y may be x. */
struct row_gate {
    int64_t rows, width;
    const void *x;
    const float *g;
    void *y;
    enum type type;
};
/* dx[t,:] = sigmoid(g[t])·dy[t,:]; dg[t] = sigmoid'(g[t]) Σ dy·x, x the ungated value. dx may be dy. */
struct row_gate_backward {
    int64_t rows, width;
    const void *x, *dy;
    const float *g;
    void *dx;
    float *dg;
    enum type type;
};

/* Router scores: softmax or sigmoid of the logits [T,E], f32; lse[t] = logsumexp(logits[t]).
 * Then the top K of each token: scores + bias (NULL: none) choose, scores weigh. groups > 1: experts are cut
 * into groups of E/groups; a group's worth is the sum of its two best; only the `top_groups` best groups take
 * part (DeepSeek-V3, arXiv 2412.19437). Ties go to the lower index. Chosen in descending order of what chose
 * them. weight[t,k] = score, divided by their sum over k (+1e-20) if `renormalise`, times `scale`. margin[t]:
 * the K-th choice's value less the best one left out (+inf if there is none); NULL skips it. */
struct router {
    int64_t tokens, experts, top_k;
    bool sigmoid, renormalise;
    float scale;
    int groups, top_groups;
    const float *logits;
    const float *bias;
    float *scores; /* [T,E] */
    float *lse;    /* [T] */
    int32_t *topk; /* [T,K] */
    float *weight; /* [T,K] */
    float *margin; /* [T] */
};
/* dlogits [T,E] f32 (written; may be scores) from
 *   d_weight [T,K] f32   gradient of the combine weights (0 for dropped ones): through renormalisation, scale
 *   aux [E] f32 or NULL  gradient of the auxiliary loss to each token's probability p_te: the scores, for
 *                        sigmoid routers divided by their sum over e
 *   z                    the z-loss's gradient is z · lse[t] · softmax(logits)[t,e] (softmax routers: the
 *                        scores; sigmoid: recomputed from logits)
 * Selection itself has no gradient. */
struct router_backward {
    struct router fwd; /* the same fields as the forward; outputs as it left them */
    const float *d_weight;
    const float *aux;
    float z;
    float *dlogits;
};
/* Statistics of one rank's tokens, added to nothing (written): prob[e] = Σ_t p_te (p as in router_backward),
 * count[e] = tokens that chose e (before any drop), z[0] = Σ_t lse[t]². */
struct router_stats {
    int64_t tokens, experts, top_k;
    bool sigmoid;
    const float *scores, *lse;
    const int32_t *topk;
    float *prob, *count, *z;
};
/* Which choices survive a capacity per expert, over ALL T tokens of a microbatch.
 * by_prob: each expert keeps its `capacity` largest weights; else the choices that stand first in their
 * sequence (token t at t mod seq; seq 0: one sequence). Ties go to the lower token; a NaN is the largest
 * weight. A token's choices are distinct experts. keep[t,k] is 1 or 0. dropped[0] f32: how many were cut. */
struct capacity {
    int64_t tokens, experts, top_k, capacity;
    bool by_prob;
    const int32_t *topk;
    const float *weight;
    int32_t *keep;
    float *dropped;
    int64_t seq;
};
/* Sorts the kept choices by slot = slot_of[expert], stably by (token, k): the order in which rows are sent.
 * count[slot] [E]; first[slot] [E+1]: its first row, the last their number; position[t,k] = row, or -1 when
 * dropped; source[row] = t·K + k. keep NULL keeps all. slot_of NULL is the identity. Sources after the last
 * kept row are not written. */
struct sort_choices {
    int64_t tokens, experts, top_k;
    const int32_t *topk, *keep, *slot_of;
    int32_t *count, *first, *position, *source;
};
/* Rows for the experts: y[r,:] = x[source[r] / K, :]. weight_out (or NULL) of row r, `ldw` floats from the
 * next, = weight_in[source[r]]. */
struct permute {
    int64_t tokens, rows, width, top_k;
    const int32_t *count;
    const void *x; /* dense [T] */
    const int32_t *source;
    void *y;
    int64_t ldy;
    const float *weight_in; /* [T,K] */
    float *weight_out;
    int64_t ldw;
    enum type type;
};
/* The reverse: y[t,:] = Σ_k x[position[t,k],:]. weight_in (or NULL) of each row, `ldw` floats from the next,
 * goes back to weight_out[t,k]; where position is -1 it becomes 0. Positions are below `rows`, for which x and
 * weight_in have room. */
struct unpermute {
    int64_t tokens, rows, width, top_k;
    const void *x;
    int64_t ldx;
    const int32_t *position;
    void *y;
    const float *weight_in;
    int64_t ldw;
    float *weight_out; /* [T,K] */
    enum type type;
};
/* Where the rows that `sources` ranks send to the experts of this one come and go: from each source they come
 * in a block, by expert (`wire`); the products want them by expert, and of one expert by source. Of this order
 * only rows [first, first+rows) come, numbered from 0 again. Source q's block begins at q·block, or with block
 * 0 right behind that of q-1.
 *   arrived[q,i]   rows that source q has for expert i
 *   row[i]         [experts+1]: expert i's first row, the last their number
 *   to, from       [experts·sources+1], [experts·sources]: segment s = i·sources + q, rows [to[s], to[s+1]),
 *                  is the wire's rows from from[s] on
 * Two sources, two experts, five rows, block 0. Source 0 sends a row for expert 0 and two for expert 1, source
 * 1 two for expert 0:
 *   arrived 1 2 2 0   row 0 3 5   to 0 1 3 5 5   from 0 3 1 5 */
struct arrivals {
    int64_t sources, experts, first, rows, block;
    const int32_t *arrived;
    int32_t *row, *to, *from;
};
/* Rows from the wire into the order of the experts: grouped[to[s] + i,:] = wire[from[s] + i,:], and weight
 * (NULL: none) [rows] from wire_weight, a float of each of the wire's rows, `ldw` floats apart. back: the other
 * way. The wire has room for wire_rows. */
struct regroup {
    int64_t segments, rows, wire_rows, width;
    const int32_t *to, *from; /* as `arrivals` wrote them */
    void *grouped;            /* dense */
    float *weight;
    void *wire;
    int64_t ld;
    float *wire_weight;
    int64_t ldw;
    bool back;
    enum type type;
};
/* y[r,c] = Σ_p x[p·stride + r·ldx + c] over `parts`, in order, f32 inside, rounded once. */
struct sum_rows {
    int64_t rows, width;
    int parts;
    const void *x;
    int64_t stride, ldx;
    void *y;
    int64_t ldy;
    enum type type;
};

/* y[t,:] = table[token[t] - first] where first <= token < first+count, else zeros. */
struct embedding {
    int64_t tokens, width, first, count;
    const int32_t *token;
    const void *table;
    void *y;
    enum type type;
};
/* d_table[token - first] f32 += dy[t,:], in token order. */
struct embedding_backward {
    int64_t tokens, width, first, count;
    const int32_t *token;
    const void *dy;
    float *d_table;
    enum type type;
};

/* Cross-entropy over a vocabulary cut across ranks, in two steps (Megatron-LM, arXiv 1909.08053).
 * softmax_stats: for columns [first, first+width) of each row: stats[t] = {max, Σexp(z-max), z at the target or
 * -inf}. Between the two the ranks' stats are gathered: [parts, rows, 3]. cross_entropy merges them (in order),
 * writes loss[t] = logsumexp - z_target and, if dlogits is not NULL, dlogits = scale·(softmax - onehot) of
 * `type`. */
struct softmax_stats {
    int64_t rows, width, first;
    const float *logits;
    const int32_t *target;
    float *stats;
};
struct cross_entropy {
    int64_t rows, width, first;
    int parts;
    const float *logits, *stats;
    const int32_t *target;
    float scale;
    float *loss;
    void *dlogits; /* [rows,width]; may be logits when type is F32 */
    enum type type;
};

/* out[0] f64 += scale · Σ x·y; y NULL stands for ones; y may be x. All in f64; the sum runs over fixed
 * blocks, and is scaled and added as a whole. */
struct total {
    int64_t count;
    const float *x, *y;
    double scale;
    double *out;
};
/* x *= scale; f32. */
struct scale {
    int64_t count;
    float *x;
    float scale;
};
/* What of an update changes with the step t. It lies in device memory, so that nobody waits for the norm: the
 * host uploads the first three, clip() makes the others. */
struct update {
    float lr, correction1, correction2; /* 1-b1^t, 1-b2^t */
    float grad_scale;
    int32_t skip; /* 1: the step has diverged, and what is updated stays as it is */
};
/* Gradients are clipped to a norm of `limit` (0: any), as PyTorch does it: with norm = sqrt(square[0]),
 * update->grad_scale = min(1, limit/(norm + 1e-6)), and update->skip = 1 unless norm and loss[0] are finite.
 * The arithmetic is f64. */
struct clip {
    const double *square, *loss;
    double limit;
    struct update *update;
};
/* AdamW (arXiv 1711.05101), PyTorch's order of operations: g = grad·grad_scale; p -= lr·decay·p; m =
 * b1·m+(1-b1)g; v = b2·v+(1-b2)g²; p -= lr/(1-b1^t) · m / (sqrt(v/(1-b2^t)) + eps). master [count] f32 is
 * updated; where param is not NULL it is written from master, rounded to `type`. */
struct adamw {
    int64_t count;
    float *master, *m, *v;
    const float *grad;
    void *param;
    const struct update *update;
    float beta1, beta2, eps, decay;
    enum type type;
};
/* Balancing without a loss (DeepSeek-V3, arXiv 2412.19437): bias[l,e] += rate · sign(mean of loads[l,:] -
 * loads[l,e]), unless update->skip. loads, bias: [layers,experts] f32; the mean is f64. */
struct balance {
    int64_t layers, experts;
    const float *loads;
    float *bias;
    double rate;
    const struct update *update;
};
/* Initial weights: element i of the tensor is mean + std · normal(seed, first+i), a counter-based generator
 * (Philox-4x32-10, Salmon et al. 2011, then Box-Muller), so any rank can make any part. rows of `width`
 * elements, ldx apart in x; element (r,c) is number first + r·stride + c. std 0 gives mean. */
struct fill_normal {
    int64_t rows, width;
    void *x;
    int64_t ldx;
    uint64_t seed;
    int64_t first, stride;
    float mean, std;
    enum type type;
};

/* An operation with its fields named, as many a line as fit: be->add(s, &OP(add, .count = n, .a = x, …)). */
#define OP(name, ...) ((struct name){__VA_ARGS__})

/* clang-format off */
#define BACKEND_OPS(X) \
    X(matmul) X(grouped_matmul) X(rmsnorm) X(rmsnorm_backward) X(row_sums) X(rope) X(attention) \
    X(attention_backward) X(swiglu) X(swiglu_backward) X(add) X(add_f64) X(bias) X(bias_backward) X(clamp) \
    X(clamp_backward) X(copy_rows) X(convert) X(row_gate) X(row_gate_backward) X(router) \
    X(router_backward) X(router_stats) X(capacity) X(sort_choices) X(permute) X(unpermute) \
    X(arrivals) X(regroup) X(sum_rows) \
    X(embedding) X(embedding_backward) X(softmax_stats) X(cross_entropy) X(total) X(scale) \
    X(clip) X(adamw) X(balance) X(fill_normal)
/* clang-format on */

#endif

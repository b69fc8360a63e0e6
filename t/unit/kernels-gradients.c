/* SPDX-License-Identifier: MIT */
/* `ref` against finite differences, and against known answers. */
#include "base/memory.h"
#include "lib/kernels.h"

typedef double loss_fn(const struct backend *ref, void *op);

static double weighted(const float *x, const float *by, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * by[i];
    return sum;
}

/* d loss/d x[i] by central differences, for some elements i of x, is gradient[i]. */
static void differ(const char *what, const struct backend *ref, loss_fn *loss, void *op, float *x,
                   const float *gradient, int64_t n)
{
    const float step = 0.5e-2f;
    for (int64_t i = 0; i < n; i += 1 + n / 50) {
        float keep = x[i], hi, lo;
        x[i] = hi = keep + step;
        double up = loss(ref, op);
        x[i] = lo = keep - step;
        double down = loss(ref, op), slope = (up - down) / ((double)hi - lo);
        x[i] = keep;
        if (!(fabs(slope - gradient[i]) <= 2e-3 * (1 + fabs(slope))))
            fail_msg("%s: gradient %lld is %g, the slope %g", what, (long long)i, gradient[i], slope);
    }
}

static double norm_loss(const struct backend *ref, void *op)
{
    struct rmsnorm_backward *b = op;
    float *y = xmalloc((size_t)(b->rows * b->heads * b->width) * sizeof *y);
    struct rmsnorm p =
        OP(rmsnorm, .rows = b->rows, .heads = b->heads, .width = b->width, .x = b->x, .ldx = b->ldx, .w = b->w,
           .y = y, .ldy = b->heads * b->width, .eps = b->eps, .clip = b->clip, .type = F32);
    ref->rmsnorm(NULL, &p);
    double sum = weighted(y, b->dy, b->rows * b->heads * b->width);
    free(y);
    return sum;
}

static void gradient_norm(void **state)
{
    struct world w = {.seed = 7};
    const struct backend *ref = backend_open("ref", 0, 1);
    for (int form = 0; form < 3; form++) {
        enum { ROWS = 5, WIDTH = 12 };
        int64_t heads = form == 1 ? 3 : 1, n = ROWS * heads * WIDTH;
        float *x = plain(&w, n, 2), *weight = plain(&w, WIDTH, 1), *dy = plain(&w, n, 1);
        float *dx = plain(&w, n, 1), *dw = xcalloc(WIDTH, sizeof *dw);
        float clip = form ? 0.7f : 0;
        struct rmsnorm_backward b =
            OP(rmsnorm_backward, .rows = ROWS, .heads = heads, .width = WIDTH, .x = x, .ldx = heads * WIDTH,
               .w = weight, .dy = dy, .lddy = heads * WIDTH, .dx = dx, .lddx = heads * WIDTH, .dw = dw,
               .eps = 1e-3f, .clip = clip, .type = F32);
        for (int64_t i = 0; clip > 0 && i < n; i++) /* away from the kink, where no slope exists */
            x[i] += x[i] > 0 ? 0.2f : -0.2f;
        ref->rmsnorm_backward(NULL, &b);
        if (clip == 0) {
            differ("rmsnorm dx", ref, norm_loss, &b, x, dx, n);
            differ("rmsnorm dw", ref, norm_loss, &b, weight, dw, WIDTH);
        } else {
            int64_t cut = 0;
            for (int64_t i = 0; i < WIDTH; i++) {
                weight[i] = weight[i] > 0 ? 1.5f : 0.05f; /* cut surely or surely not, except for x near 0 */
                dw[i] = 0;
            }
            for (int64_t i = 0; i < n; i++) {
                x[i] = x[i] > 0 ? 1 + 0.2f * x[i] : -1 + 0.2f * x[i];
                cut += weight[i % WIDTH] > 1;
            }
            assert_true(cut > 0 && cut < n);
            ref->rmsnorm_backward(NULL, &b);
            differ("rmsnorm clip dx", ref, norm_loss, &b, x, dx, n);
            differ("rmsnorm clip dw", ref, norm_loss, &b, weight, dw, WIDTH);
        }
        free(x), free(weight), free(dy), free(dx), free(dw);
    }
}

/* A norm over two halves, each with the sums of both, is the norm over the whole. */
static void norm_in_parts(void **state)
{
    enum { ROWS = 4, WIDTH = 10, HALF = 5 };
    struct world w = {.seed = 8};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *x = plain(&w, ROWS * WIDTH, 2), *weight = plain(&w, WIDTH, 1), *dy = plain(&w, ROWS * WIDTH, 1);
    float y[2][ROWS * WIDTH], dx[2][ROWS * WIDTH], dw[2][WIDTH] = {0}, sum[2][ROWS], dot[2][ROWS];
    ref->rmsnorm(NULL, &OP(rmsnorm, .rows = ROWS, .heads = 1, .width = WIDTH, .x = x, .ldx = WIDTH, .w = weight,
                           .y = y[0], .ldy = WIDTH, .eps = 1e-3f, .clip = 0.6f, .type = F32));
    ref->rmsnorm_backward(NULL, &OP(rmsnorm_backward, .rows = ROWS, .heads = 1, .width = WIDTH, .x = x,
                                    .ldx = WIDTH, .w = weight, .dy = dy, .lddy = WIDTH, .dx = dx[0],
                                    .lddx = WIDTH, .dw = dw[0], .eps = 1e-3f, .clip = 0.6f, .type = F32));
    for (int h = 0; h < 2; h++)
        ref->row_sums(NULL, &(struct row_sums){ROWS, HALF, x + h * HALF, WIDTH, sum[h], .type = F32});
    for (int r = 0; r < ROWS; r++)
        sum[0][r] += sum[1][r];
    for (int h = 0; h < 2; h++)
        ref->row_sums(NULL,
                      &OP(row_sums, .rows = ROWS, .width = HALF, .x = x + h * HALF, .ldx = WIDTH,
                          .dy = dy + h * HALF, .lddy = WIDTH, .w = weight + h * HALF, .dot = dot[h],
                          .sumsq_in = sum[0], .full_width = WIDTH, .eps = 1e-3f, .clip = 0.6f, .type = F32));
    for (int r = 0; r < ROWS; r++)
        dot[0][r] += dot[1][r];
    for (int h = 0; h < 2; h++) {
        int at = h * HALF;
        ref->rmsnorm(NULL, &OP(rmsnorm, .rows = ROWS, .heads = 1, .width = HALF, .x = x + at, .ldx = WIDTH,
                               .w = weight + at, .y = y[1] + at, .ldy = WIDTH, .eps = 1e-3f, .clip = 0.6f,
                               .sumsq = sum[0], .full_width = WIDTH, .type = F32));
        ref->rmsnorm_backward(NULL,
                              &OP(rmsnorm_backward, .rows = ROWS, .heads = 1, .width = HALF, .x = x + at,
                                  .ldx = WIDTH, .w = weight + at, .dy = dy + at, .lddy = WIDTH,
                                  .dx = dx[1] + at, .lddx = WIDTH, .dw = dw[1] + at, .eps = 1e-3f, .clip = 0.6f,
                                  .sumsq = sum[0], .dot = dot[0], .full_width = WIDTH, .type = F32));
    }
    for (int i = 0; i < ROWS * WIDTH; i++)
        assert_true(fabsf(y[0][i] - y[1][i]) <= 1e-6f && fabsf(dx[0][i] - dx[1][i]) <= 3e-6f);
    for (int i = 0; i < WIDTH; i++)
        assert_true(fabsf(dw[0][i] - dw[1][i]) <= 3e-6f);
    free(x), free(weight), free(dy);
}

static double attention_loss(const struct backend *ref, void *op)
{
    struct attention_backward *b = op;
    ref->attention(NULL, &b->fwd);
    return weighted(b->fwd.o, b->d_o, b->fwd.sequences * b->fwd.seq * b->fwd.heads * b->fwd.dim);
}

static void gradient_attention(void **state)
{
    enum {
        SEQUENCES = 2,
        SEQ = 6,
        HEADS = 4,
        KV = 2,
        DIM = 8,
        Q = HEADS * DIM,
        K = KV * DIM,
        ROWS = SEQUENCES * SEQ
    };
    struct world w = {.seed = 9};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *q = plain(&w, ROWS * Q, 1), *k = plain(&w, ROWS * K, 1), *v = plain(&w, ROWS * K, 1),
          *o = plain(&w, ROWS * Q, 1);
    float *dq = plain(&w, ROWS * Q, 1), *dk = plain(&w, ROWS * K, 1), *dv = plain(&w, ROWS * K, 1);
    float *d_o = plain(&w, ROWS * Q, 1), *lse = plain(&w, HEADS * ROWS, 1), *delta = plain(&w, HEADS * ROWS, 1);
    struct attention p = OP(attention, .sequences = SEQUENCES, .seq = SEQ, .heads = HEADS, .kv_heads = KV,
                            .dim = DIM, .q = q, .k = k, .v = v, .ldq = Q, .ldk = K, .ldv = K, .o = o, .ldo = Q,
                            .lse = lse, .scale = 0.35f, .type = F32);
    struct attention_backward b =
        OP(attention_backward, .fwd = p, .d_o = d_o, .lddo = Q, .dq = dq, .dk = dk, .dv = dv, .delta = delta);
    ref->attention(NULL, &p);
    ref->attention_backward(NULL, &b);
    differ("attention dq", ref, attention_loss, &b, q, dq, ROWS * Q);
    differ("attention dk", ref, attention_loss, &b, k, dk, ROWS * K);
    differ("attention dv", ref, attention_loss, &b, v, dv, ROWS * K);
    free(q), free(k), free(v), free(o), free(dq), free(dk), free(dv), free(d_o), free(lse), free(delta);
}

static double swiglu_loss(const struct backend *ref, void *op)
{
    struct swiglu_backward *b = op;
    float *y = xmalloc((size_t)(b->rows * b->width) * sizeof *y);
    ref->swiglu(NULL, &OP(swiglu, .rows = b->rows, .width = b->width, .gate_up = b->gate_up,
                          .weight = b->weight, .y = y, .type = F32));
    double sum = weighted(y, b->dy, b->rows * b->width);
    free(y);
    return sum;
}

static void gradient_swiglu(void **state)
{
    enum { ROWS = 4, WIDTH = 9 };
    struct world w = {.seed = 10};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *gate_up = plain(&w, ROWS * 2 * WIDTH, 3), *weight = plain(&w, ROWS, 1),
          *dy = plain(&w, ROWS * WIDTH, 1);
    float *d = plain(&w, ROWS * 2 * WIDTH, 1), *dw = plain(&w, ROWS, 1);
    struct swiglu_backward b = OP(swiglu_backward, .rows = ROWS, .width = WIDTH, .gate_up = gate_up,
                                  .weight = weight, .dy = dy, .d_gate_up = d, .d_weight = dw, .type = F32);
    ref->swiglu_backward(NULL, &b);
    differ("swiglu", ref, swiglu_loss, &b, gate_up, d, ROWS * 2 * WIDTH);
    differ("swiglu weight", ref, swiglu_loss, &b, weight, dw, ROWS);
    free(gate_up), free(weight), free(dy), free(d), free(dw);
}

/* The combine weights with the choice of experts held, the auxiliary and the z-loss. */
static double router_loss(const struct backend *ref, void *op)
{
    struct router_backward *b = op;
    struct router p = b->fwd;
    int64_t T = p.tokens, E = p.experts, K = p.top_k;
    float *scores = xmalloc((size_t)(T * E) * sizeof *scores), *lse = xmalloc((size_t)T * sizeof *lse);
    float *weight = xmalloc((size_t)(T * K) * sizeof *weight);
    int32_t *topk = xmalloc((size_t)(T * K) * sizeof *topk);
    p.scores = scores, p.lse = lse, p.weight = weight, p.topk = topk;
    ref->router(NULL, &p);
    double loss = 0;
    for (int64_t t = 0; t < T; t++) {
        double chosen = 1e-20, total = 0;
        for (int64_t k = 0; k < K; k++)
            chosen += scores[t * E + b->fwd.topk[t * K + k]];
        for (int64_t e = 0; e < E; e++)
            total += p.sigmoid ? scores[t * E + e] : 1.0 / (double)E;
        for (int64_t k = 0; k < K; k++)
            loss += b->d_weight[t * K + k] * scores[t * E + b->fwd.topk[t * K + k]] * p.scale /
                    (p.renormalise ? chosen : 1);
        for (int64_t e = 0; e < E; e++)
            loss += b->aux[e] * scores[t * E + e] / total;
        loss += b->z * lse[t] * lse[t] / 2;
    }
    free(scores), free(lse), free(weight), free(topk);
    return loss;
}

static void gradient_router(void **state)
{
    enum { T = 5, E = 6, K = 2 };
    struct world w = {.seed = 11};
    const struct backend *ref = backend_open("ref", 0, 1);
    for (int form = 0; form < 4; form++) {
        float *logits = plain(&w, T * E, 2), *d_weight = plain(&w, T * K, 1), *aux = plain(&w, E, 1);
        float *scores = plain(&w, T * E, 1), *lse = plain(&w, T, 1), *weight = plain(&w, T * K, 1);
        float *dlogits = plain(&w, T * E, 1);
        int32_t topk[T * K];
        struct router p = OP(router, .tokens = T, .experts = E, .top_k = K, .sigmoid = form & 1,
                             .renormalise = form & 2, .scale = 1.7f, .groups = 1, .top_groups = 1,
                             .logits = logits, .scores = scores, .lse = lse, .topk = topk, .weight = weight);
        ref->router(NULL, &p);
        struct router_backward b = {p, d_weight, aux, 0.3f, dlogits};
        ref->router_backward(NULL, &b);
        differ("router", ref, router_loss, &b, logits, dlogits, T * E);
        free(logits), free(d_weight), free(aux), free(scores), free(lse), free(weight), free(dlogits);
    }
}

static double entropy_loss(const struct backend *ref, void *op)
{
    struct cross_entropy p = *(struct cross_entropy *)op;
    p.dlogits = NULL;
    ref->softmax_stats(NULL, &OP(softmax_stats, .rows = p.rows, .width = p.width, .logits = p.logits,
                                 .target = p.target, .stats = (float *)p.stats));
    ref->cross_entropy(NULL, &p);
    double sum = 0;
    for (int64_t t = 0; t < p.rows; t++)
        sum += p.loss[t];
    return sum * p.scale;
}

static void gradient_loss(void **state)
{
    enum { ROWS = 4, WIDTH = 11 };
    struct world w = {.seed = 12};
    const struct backend *ref = backend_open("ref", 0, 1);
    float *logits = plain(&w, ROWS * WIDTH, 3), *d = plain(&w, ROWS * WIDTH, 1), stats[3 * ROWS], loss[ROWS];
    int32_t target[ROWS] = {0, 3, 10, 7};
    struct cross_entropy p =
        OP(cross_entropy, .rows = ROWS, .width = WIDTH, .parts = 1, .logits = logits, .stats = stats,
           .target = target, .scale = 0.8f, .loss = loss, .dlogits = d, .type = F32);
    entropy_loss(ref, &p);
    ref->cross_entropy(NULL, &p);
    differ("cross_entropy", ref, entropy_loss, &p, logits, d, ROWS * WIDTH);
    free(logits), free(d);
}

/* Philox-4x32-10 of counter 0 and key 0, from the authors' known answers, through Box-Muller. */
static void fill_known(void **state)
{
    const struct backend *ref = backend_open("ref", 0, 1);
    const double word[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    float x[4];
    ref->fill_normal(
        NULL, &OP(fill_normal, .rows = 1, .width = 4, .x = x, .ldx = 4, .stride = 4, .std = 1, .type = F32));
    for (int i = 0; i < 4; i += 2) {
        double radius = sqrt(-2 * log((word[i] + 0.5) / 4294967296.0)),
               angle = 2 * M_PI * word[i + 1] / 4294967296.0;
        assert_true(fabs(x[i] - radius * cos(angle)) < 1e-6 && fabs(x[i + 1] - radius * sin(angle)) < 1e-6);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient_norm),      cmocka_unit_test(norm_in_parts),
        cmocka_unit_test(gradient_attention), cmocka_unit_test(gradient_swiglu),
        cmocka_unit_test(gradient_router),    cmocka_unit_test(gradient_loss),
        cmocka_unit_test(fill_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* The programme of sizes: a model's two ends, and its optimizer. */
#include <math.h>

#include "base/memory.h"
#include "gpu/sizes.h"

/* n: the vocabulary. */
static void embedding(struct side *s)
{
    int64_t n = s->width;
    int32_t *token = ints_of(s, 1, 0, (int32_t)s->n);
    void *table = whole_of(s, s->n * n, s->type, 1), *y = rows_of(s, n, s->type, 1);
    s->be->embedding(s->s, &OP(embedding, .tokens = s->rows, .width = n, .count = s->n, .token = token,
                               .table = table, .y = y, .type = s->type));
    show(s, "y", y, n, s->type, 0);
}

static void embedding_backward(struct side *s)
{
    int64_t n = s->width;
    int32_t *token = ints_of(s, 1, 0, (int32_t)s->n);
    void *dy = rows_of(s, n, s->type, 1);
    float *d = whole_of(s, s->n * n, F32, 1);
    s->be->embedding_backward(s->s, &OP(embedding_backward, .tokens = s->rows, .width = n, .count = s->n,
                                        .token = token, .dy = dy, .d_table = d, .type = s->type));
    show_whole(s, "d_table", d, s->n * n, F32, 0);
}

/* `width` columns of a vocabulary, of which this is all. */
static void loss(struct side *s)
{
    int64_t n = s->width;
    float *logits = rows_of(s, n, F32, 3), *stats = rows_of(s, 3, F32, 0), *loss_of = rows_of(s, 1, F32, 0);
    int32_t *target = ints_of(s, 1, 0, (int32_t)n);
    s->be->softmax_stats(s->s, &OP(softmax_stats, .rows = s->rows, .width = n, .logits = logits,
                                   .target = target, .stats = stats));
    show(s, "stats", stats, 3, F32, 2e-5);
    void *d = s->type == F32 ? (void *)logits : rows_of(s, n, s->type, 1);
    s->be->cross_entropy(s->s, &OP(cross_entropy, .rows = s->rows, .width = n, .parts = 1, .logits = logits,
                                   .stats = stats, .target = target, .scale = 100, .loss = loss_of,
                                   .dlogits = d, .type = s->type));
    show(s, "loss", loss_of, 1, F32, 5e-5);
    show(s, "gradient", d, n, s->type, s->tol);
}

static struct update *update_of(struct side *s)
{
    struct update how = {
        .lr = 1e-2f, .grad_scale = 0.5f, .correction1 = 0.19f, .correction2 = 0.0975f, .skip = 0};
    return host_of(s, &how, sizeof how);
}

static void adamw(struct side *s)
{
    int64_t n = s->width, count = s->rows * n;
    float *master = rows_of(s, n, F32, 1), *m = rows_of(s, n, F32, 0.1), *v = rows_of(s, n, F32, 0),
          *grad = rows_of(s, n, F32, 1);
    void *param = rows_of(s, n, s->type, 1);
    s->be->scale(s->s, &OP(scale, .count = count, .x = grad, .scale = 0.7f));
    show(s, "scale", grad, n, F32, 0);
    s->be->adamw(s->s, &OP(adamw, .count = count, .master = master, .m = m, .v = v, .grad = grad,
                           .param = param, .update = update_of(s), .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f,
                           .decay = 0.1f, .type = s->type));
    show(s, "master", master, n, F32, 0);
    show(s, "m", m, n, F32, 0);
    show(s, "v", v, n, F32, 0);
    show(s, "param", param, n, s->type, 0);
}

static void totals(struct side *s)
{
    int64_t n = s->width, count = s->rows * n;
    static const double zeros[2];
    float *x = rows_of(s, n, F32, 1);
    double *out = host_of(s, zeros, sizeof zeros);
    s->be->total(s->s, &OP(total, .count = count, .x = x, .y = x, .scale = 1, .out = out));
    s->be->total(s->s, &OP(total, .count = count, .x = x, .scale = 1, .out = out + 1));
    show_doubles(s, "totals", out, 2);
}

/* What is left of the table: small, whatever the model. */
static void small(struct side *s)
{
    enum { LAYERS = 61, EXPERTS = 256, FIGURES = 64, PARTS = 128 };
    double ones[2] = {16, 1}, many[FIGURES * (PARTS + 1)];
    for (int i = 0; i < FIGURES * (PARTS + 1); i++)
        many[i] = i * 0.37;
    double *b = host_of(s, many, sizeof many), *y = host_of(s, many, FIGURES * sizeof *many);
    s->be->add_f64(s->s, &OP(add_f64, .count = FIGURES, .parts = PARTS, .b = b, .y = y));
    show_doubles(s, "add_f64", y, FIGURES);
    double *square = host_of(s, ones, sizeof ones);
    struct update *update = update_of(s);
    s->be->clip(s->s, &OP(clip, .square = square, .loss = square + 1, .limit = 1, .update = update));
    show_whole(s, "clip", &update->grad_scale, 1, F32, 0);
    float *loads = whole_of(s, LAYERS * EXPERTS, F32, 100), *bias = whole_of(s, LAYERS * EXPERTS, F32, 1);
    s->be->balance(s->s, &OP(balance, .layers = LAYERS, .experts = EXPERTS, .loads = loads, .bias = bias,
                             .rate = 1e-3, .update = update));
    show_whole(s, "balance", bias, LAYERS * EXPERTS, F32, 0);
}

/* What all tensors here are made by, as one, and beyond the 2^31st element. */
static void fill(struct side *s)
{
    void *x = rows_of(s, s->width, s->type, 2);
    show(s, "x", x, s->width, s->type, 0);
}

const struct problem sizes_ends[] = {{"fill", fill, 300000, 7168, 0, 1, false},
                                     {"embedding", embedding, 32768, 1024, 32768, 1, false},
                                     {"embedding, beyond 2^31", embedding, 300000, 7168, 1024, 1, true},
                                     {"embedding's gradient", embedding_backward, 32768, 1024, 32768, 0, false},
                                     {"loss", loss, 8192, 32768, 0, 1, false},
                                     {"loss, beyond 2^31", loss, 16400, 131072, 0, 1, true},
                                     {"adamw", adamw, 32768, 1024, 0, 1, false},
                                     {"adamw, beyond 2^31", adamw, 2100000, 1024, 0, 1, true},
                                     {"totals", totals, 65536, 1024, 0, 0, false},
                                     {"totals, beyond 2^31", totals, 2100000, 1024, 0, 0, true},
                                     {"small ones", small, 1, 64, 0, 0, false},
                                     {NULL, NULL, 0, 0, 0, 0, false}};

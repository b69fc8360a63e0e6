/* SPDX-License-Identifier: MIT */
/* The operations of a model's two ends and of its optimizer, on every backend against `ref` over awkward
 * shapes. */
#include "base/memory.h"
#include "lib/kernels.h"

static void case_loss(struct world *w)
{
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {17, 3000}, {130, 65}};
    for (size_t i = 0; i < COUNT(shapes); i++)
        for (int parts = 1; parts < 4; parts += 2)
            for (int in_place = 0; in_place < 2; in_place++) {
                int64_t rows = shapes[i][0], width = shapes[i][1], vocab = parts * width;
                int32_t *target = ints(w, rows, 0, (int32_t)vocab);
                float *logits[3], *stats = floats(w, parts * rows * 3, 1), *loss = floats(w, rows, 1);
                for (int part = 0; part < parts; part++) {
                    logits[part] = floats(w, rows * width, 30);
                    w->be->softmax_stats(w->s, &OP(softmax_stats, .rows = rows, .width = width,
                                                   .first = part * width, .logits = logits[part],
                                                   .target = target, .stats = stats + part * rows * 3));
                }
                show_as(w, "softmax_stats", stats, parts * rows * 3, F32, 2e-5);
                for (int part = 0; part < parts; part++) {
                    bool same = in_place && w->type == F32;
                    void *d = same ? logits[part] : act(w, rows * width);
                    struct cross_entropy p =
                        OP(cross_entropy, .rows = rows, .width = width, .first = part * width, .parts = parts,
                           .logits = logits[part], .stats = stats, .target = target, .scale = 0.5f,
                           .loss = loss, .dlogits = d, .type = w->type);
                    w->be->cross_entropy(w->s, &p);
                    show_floats(w, "cross_entropy loss", loss, rows);
                    show(w, "cross_entropy gradient", d, rows * width);
                }
                drop(w);
            }
}

static void case_nan(struct world *w)
{
    enum { ROWS = 3, WIDTH = 40 };
    float host[ROWS * WIDTH] = {0};
    host[WIDTH + 7] = NAN;
    host[2 * WIDTH + 39] = INFINITY;
    float *logits = device(w, host, sizeof host), *stats = floats(w, 3 * ROWS, 1), *loss = floats(w, ROWS, 1);
    int32_t *target = ints(w, ROWS, 0, WIDTH);
    w->be->softmax_stats(w->s, &OP(softmax_stats, .rows = ROWS, .width = WIDTH, .logits = logits,
                                   .target = target, .stats = stats));
    w->be->cross_entropy(w->s, &OP(cross_entropy, .rows = ROWS, .width = WIDTH, .parts = 1, .logits = logits,
                                   .stats = stats, .target = target, .scale = 1, .loss = loss, .type = F32));
    float got[ROWS];
    assert_int_equal(w->be->download(w->s, got, loss, sizeof got), 0);
    assert_true(isfinite(got[0]) && isnan(got[1]) && !isfinite(got[2]));
    float weight_host[WIDTH];
    for (int i = 0; i < WIDTH; i++)
        weight_host[i] = 1;
    float *weight = device(w, weight_host, sizeof weight_host), *y = floats(w, ROWS * WIDTH, 1);
    w->be->rmsnorm(w->s, &OP(rmsnorm, .rows = ROWS, .heads = 1, .width = WIDTH, .x = logits, .ldx = WIDTH,
                             .w = weight, .y = y, .ldy = WIDTH, .eps = 1e-5f, .clip = 1, .type = F32));
    float norm[ROWS * WIDTH];
    assert_int_equal(w->be->download(w->s, norm, y, sizeof norm), 0);
    assert_true(isfinite(norm[0]) && isnan(norm[WIDTH]) && isnan(norm[WIDTH + 7]));
}

static void case_embedding(struct world *w)
{
    /* tokens, width, first, count, tokens below: rows of one and of two digits, long runs and none, tokens that
     * lie elsewhere, more than one sort takes */
    static const int64_t shapes[][5] = {
        {0, 4, 5, 20, 40},
        {1, 1, 5, 20, 40},
        {3, 17, 5, 20, 40},
        {65, 130, 5, 20, 40},
        {300, 300, 5, 20, 40},
        {700, 9, 0, 255, 255},
        {700, 8, 3, 256, 300},
        {1500, 2100, 0, 1, 2},
        {900, 5, 0, 0, 7},
        {40, 6, 100, 20, 50},
        {600, 4, 70000, 70000, 150000},
        {65836, 1, 2, 3, 6},
    };
    for (size_t i = 0; i < COUNT(shapes); i++) {
        int64_t tokens = shapes[i][0], width = shapes[i][1], first = shapes[i][2], count = shapes[i][3];
        int32_t *token = ints(w, tokens, 0, (int32_t)shapes[i][4]);
        void *table = act(w, count * width), *y = act(w, tokens * width);
        float *d = floats(w, count * width, 1);
        w->be->embedding(w->s, &OP(embedding, .tokens = tokens, .width = width, .first = first, .count = count,
                                   .token = token, .table = table, .y = y, .type = w->type));
        show_as(w, "embedding", y, tokens * width, w->type, 0);
        w->be->embedding_backward(w->s,
                                  &OP(embedding_backward, .tokens = tokens, .width = width, .first = first,
                                      .count = count, .token = token, .dy = y, .d_table = d, .type = w->type));
        show_as(w, "embedding_backward", d, count * width, F32, 0);
        drop(w);
    }
}

static void case_total(struct world *w)
{
    static const int64_t counts[] = {0, 1, 3, 17, 1030, 40000};
    static const double begin[3] = {0.25, -1, 3};
    for (size_t i = 0; i < COUNT(counts); i++) {
        int64_t n = counts[i];
        float *x = floats(w, n, 3), *y = floats(w, n, 1);
        double *out = device(w, begin, sizeof begin), got[3];
        w->be->total(w->s, &OP(total, .count = n, .x = x, .scale = 1, .out = out));
        w->be->total(w->s, &OP(total, .count = n, .x = x, .y = x, .scale = 0.5, .out = out + 1));
        w->be->total(w->s, &OP(total, .count = n, .x = x, .y = y, .scale = -2, .out = out + 2));
        show_doubles(w, "totals", out, 3);
        assert_int_equal(w->be->download(w->s, got, out, sizeof got), 0);
        for (int k = 0; k < 3; k++)
            assert_true(n == 0 ? got[k] == begin[k] : got[k] != begin[k]);
        drop(w);
    }
}

static void case_add_f64(struct world *w)
{
    static const int64_t counts[] = {0, 1, 3, 300};
    for (size_t i = 0; i < COUNT(counts); i++)
        for (int parts = 0; parts < 4; parts++) {
            int64_t n = counts[i];
            double *host = xmalloc((size_t)(4 * n + 1) * sizeof *host);
            for (int64_t k = 0; k < 4 * n; k++)
                host[k] = uniform(w) + 1e9;
            double *y = device(w, host, (size_t)n * sizeof *host);
            double *b = device(w, host + n, (size_t)(3 * n) * sizeof *host);
            w->be->add_f64(w->s, &OP(add_f64, .count = n, .parts = parts, .b = b, .y = y));
            download(w, host, y, (size_t)n * sizeof *host);
            for (int64_t k = 0; k < n; k++)
                one(w, "add_f64", k, host[k], 0);
            free(host);
            drop(w);
        }
}

static struct update downloaded(struct world *w, const struct update *u)
{
    struct update host;
    assert_int_equal(w->be->download(w->s, &host, u, sizeof host), 0);
    return host;
}

/* The norm and the loss, the limit, and what becomes of them. */
static void case_clip(struct world *w)
{
    static const struct {
        double square, loss, limit;
        float grad_scale;
        int skip;
    } cases[] = {{16, 1, 0, 1, 0},
                 {16, 1, 5, 1, 0},
                 {16, 1, 1, (float)(1 / (4 + 1e-6)), 0},
                 {0, 0, 1, 1, 0},
                 {INFINITY, 1, 1, 0, 1},
                 {NAN, 1, 0, 1, 1},
                 {16, NAN, 1, (float)(1 / (4 + 1e-6)), 1},
                 {16, -INFINITY, 0, 1, 1}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        double *totals = device(w, (double[]){cases[i].square, cases[i].loss}, 2 * sizeof *totals);
        struct update before = {.lr = 3, .correction1 = 4, .correction2 = 5, .grad_scale = NAN, .skip = -1},
                      *update = device(w, &before, sizeof before);
        w->be->clip(w->s,
                    &OP(clip, .square = totals, .loss = totals + 1, .limit = cases[i].limit, .update = update));
        struct update u = downloaded(w, update);
        assert_true(u.lr == 3 && u.correction1 == 4 && u.correction2 == 5);
        assert_true(u.grad_scale == cases[i].grad_scale);
        assert_int_equal(u.skip, cases[i].skip);
        drop(w);
    }
}

static void case_optim(struct world *w)
{
    static const int64_t counts[] = {0, 1, 3, 17, 1030, 40000};
    for (size_t i = 0; i < COUNT(counts); i++) {
        int64_t n = counts[i];
        float *master = floats(w, n, 1), *m = floats(w, n, 0.1), *v = floats(w, n, 0), *grad = floats(w, n, 3);
        void *param = act(w, n);
        w->be->scale(w->s, &(struct scale){n, grad, 0.7f});
        show_as(w, "scale", grad, n, F32, 0);
        struct update how = {
            .lr = 1e-2f, .grad_scale = 0.5f, .correction1 = 0.19f, .correction2 = 0.0975f, .skip = 0};
        struct update *update = device(w, &how, sizeof how);
        struct adamw p =
            OP(adamw, .count = n, .master = master, .m = m, .v = v, .grad = grad, .param = param,
               .update = update, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f, .type = w->type);
        w->be->adamw(w->s, &p);
        p.param = NULL;
        w->be->adamw(w->s, &p);
        show_as(w, "adamw master", master, n, F32, 0);
        show_as(w, "adamw m", m, n, F32, 0);
        show_as(w, "adamw v", v, n, F32, 0);
        show_as(w, "adamw param", param, n, w->type, 0);
        drop(w);
    }
}

static void assert_as_before(struct world *w, const void *before, const void *p, size_t bytes)
{
    void *now = xmalloc(bytes);
    assert_int_equal(w->be->download(w->s, now, p, bytes), 0);
    assert_memory_equal(now, before, bytes);
    free(now);
}

/* What has diverged changes nothing: gradients of NaN, and the flag that the host has not seen. */
static void case_skip(struct world *w)
{
    enum { N = 20000, EXPERTS = 4 };
    static const float nan_load[EXPERTS] = {NAN, 1, 2, 3}, bias_before[EXPERTS] = {1, 2, 3, 4};
    struct update how = {.lr = 1e-2f, .grad_scale = NAN, .correction1 = 0.1f, .correction2 = 0.1f, .skip = 1};
    float *host = xmalloc(N * sizeof *host), *nans = xmalloc(N * sizeof *nans);
    for (int i = 0; i < N; i++) {
        host[i] = (float)uniform(w);
        nans[i] = NAN;
    }
    float *master = device(w, host, N * 4), *m = device(w, host, N * 4), *v = device(w, host, N * 4),
          *grad = device(w, nans, N * 4), *loads = device(w, nan_load, sizeof nan_load),
          *bias = device(w, bias_before, sizeof bias_before);
    void *param = device(w, host, N * type_bytes(w->type));
    struct update *update = device(w, &how, sizeof how);
    w->be->adamw(w->s, &OP(adamw, .count = N, .master = master, .m = m, .v = v, .grad = grad, .param = param,
                           .update = update, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f,
                           .type = w->type));
    w->be->balance(w->s, &OP(balance, .layers = 1, .experts = EXPERTS, .loads = loads, .bias = bias, .rate = 1,
                             .update = update));
    assert_as_before(w, host, master, N * 4);
    assert_as_before(w, host, m, N * 4);
    assert_as_before(w, host, v, N * 4);
    assert_as_before(w, host, param, N * type_bytes(w->type));
    assert_as_before(w, bias_before, bias, sizeof bias_before);
    free(host);
    free(nans);
}

/* Two layers: the mean of the first is 2.5 and that of the second 1, which one of its experts has. */
static void case_balance(struct world *w)
{
    static const float load[] = {1, 2, 3, 4, 0, 1, 3, 0}, want[] = {1.5, 1.5, 0.5, 0.5, 1.5, 1, 0.5, 1.5};
    float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1}, got[8];
    struct update how = {.skip = 0}, *update = device(w, &how, sizeof how);
    float *loads = device(w, load, sizeof load), *bias = device(w, ones, sizeof ones);
    w->be->balance(w->s, &OP(balance, .layers = 2, .experts = 4, .loads = loads, .bias = bias, .rate = 0.5,
                             .update = update));
    assert_int_equal(w->be->download(w->s, got, bias, sizeof got), 0);
    assert_memory_equal(got, want, sizeof want);
}

static void case_fill(struct world *w)
{
    enum { ROWS = 130, WIDTH = 203, LD = 207 };
    void *x = act(w, ROWS * LD), *part = act(w, ROWS * 11);
    struct fill_normal p = OP(fill_normal, .rows = ROWS, .width = WIDTH, .x = x, .ldx = LD, .seed = 42,
                              .first = 7, .stride = WIDTH, .mean = 0.5f, .std = 2, .type = w->type);
    w->be->fill_normal(w->s, &p);
    show_as(w, "fill_normal", x, ROWS * LD, w->type, 0);
    p = OP(fill_normal, .rows = ROWS, .width = 11, .x = part, .ldx = 11, .seed = 42, .first = 7 + 90,
           .stride = WIDTH, .mean = 0.5f, .std = 2, .type = w->type);
    w->be->fill_normal(w->s, &p);
    uint16_t *all = xmalloc(ROWS * LD * 4), *some = xmalloc(ROWS * 11 * 4);
    assert_int_equal(w->be->download(w->s, all, x, ROWS * LD * type_bytes(w->type)), 0);
    assert_int_equal(w->be->download(w->s, some, part, ROWS * 11 * type_bytes(w->type)), 0);
    double sum = 0, squares = 0;
    for (int r = 0; r < ROWS; r++) {
        for (int c = 0; c < 11; c++)
            assert_true(load(some, r * 11 + c, w->type) == load(all, r * LD + 90 + c, w->type));
        for (int c = 0; c < WIDTH; c++) {
            double v = load(all, r * LD + c, w->type);
            sum += v;
            squares += v * v;
        }
    }
    double mean = sum / (ROWS * WIDTH), variance = squares / (ROWS * WIDTH) - mean * mean;
    assert_true(fabs(mean - 0.5) < 0.05 && fabs(variance - 4) < 0.15);
    free(all);
    free(some);
}

CASE(loss)
CASE(nan)
CASE(embedding)
CASE(total)
CASE(add_f64)
CASE(clip)
CASE(optim)
CASE(skip)
CASE(balance)
CASE(fill)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),    cmocka_unit_test(test_nan),     cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_total),   cmocka_unit_test(test_clip),    cmocka_unit_test(test_optim),
        cmocka_unit_test(test_skip),    cmocka_unit_test(test_balance), cmocka_unit_test(test_fill),
        cmocka_unit_test(test_add_f64),
    };
    return RUN_CASES(argc, argv, tests);
}

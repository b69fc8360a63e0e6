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
    static const int64_t shapes[][2] = {{0, 4}, {1, 1}, {3, 17}, {65, 130}, {300, 300}};
    for (size_t i = 0; i < COUNT(shapes); i++) {
        int64_t tokens = shapes[i][0], width = shapes[i][1], first = 5, count = 20;
        int32_t *token = ints(w, tokens, 0, 40);
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

static void case_optim(struct world *w)
{
    static const int64_t counts[] = {0, 1, 3, 17, 1030, 40000};
    for (size_t i = 0; i < COUNT(counts); i++) {
        int64_t n = counts[i];
        float *master = floats(w, n, 1), *m = floats(w, n, 0.1), *v = floats(w, n, 0), *grad = floats(w, n, 3);
        void *param = act(w, n);
        double *out = device(w, NULL, 2 * sizeof(double));
        w->be->sum_squares(w->s, &(struct sum_squares){n, grad, out});
        w->be->sum(w->s, &(struct sum){n, grad, out + 1});
        show_doubles(w, "sums", out, 2);
        w->be->scale(w->s, &(struct scale){n, grad, 0.7f});
        show_as(w, "scale", grad, n, F32, 0);
        struct adamw p = OP(adamw, .count = n, .master = master, .m = m, .v = v, .grad = grad, .param = param,
                            .lr = 1e-2f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .decay = 0.1f,
                            .grad_scale = 0.5f, .correction1 = 0.19f, .correction2 = 0.0975f, .type = w->type);
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
CASE(optim)
CASE(fill)

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss),  cmocka_unit_test(test_nan),  cmocka_unit_test(test_embedding),
        cmocka_unit_test(test_optim), cmocka_unit_test(test_fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

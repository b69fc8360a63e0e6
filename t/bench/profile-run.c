/* SPDX-License-Identifier: MIT */
/* moe-train, which says on stderr at its end where the time of its operations went: a line for each, with
 * calls, seconds, bytes that it touches (kernels/access.h), floating-point operations of matrix products, and
 * exponentials of attention. And products by use and shape, USE,EXPERTSx[n,k]: "product", then as above without
 * exponentials. t/bench/profile makes shares of it. usage: profile-run OPTIONS OF MOE-TRAIN */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access.h"
#include "queue.h"

enum number {
#define X(op) NUMBER_##op,
    BACKEND_OPS(X)
#undef X
        NUMBERS
};

struct spent {
    const char *name;
    long calls;
    double seconds, bytes, flops, exponentials;
};
static struct spent spent[NUMBERS][2]; /* by precision */

/* Products of one use and shape: of rows [.,k] by weights [n,k]. */
struct product {
    int use; /* enum grouped_kind */
    int64_t experts, n, k;
    bool low;
    struct spent spent;
};
enum { PRODUCTS = 64 };
static struct product products[PRODUCTS];
static int product_count;

static double bytes_of(const struct access_list *l)
{
    double bytes = 0;
    for (int i = 0; i < l->count; i++) {
        const struct access *a = l->list + i;
        double once = (double)a->width * (double)a->rows * (double)a->planes;
        bytes += ((a->kind & READ) != 0) * once + ((a->kind & WRITE) != 0) * once;
    }
    return bytes;
}

/* Queries with a key that they see. The backward pass's struct begins with the forward pass's. */
static double pairs_of(enum number n, const void *op)
{
    const struct attention *a = op;
    if (n != NUMBER_attention && n != NUMBER_attention_backward)
        return 0;
    return (double)a->sequences * (double)a->heads * (double)a->seq * ((double)a->seq + 1) / 2;
}

static double flops_of(enum number n, const void *op)
{
    const struct matmul *m = op;
    const struct grouped_matmul *g = op;
    const struct attention *a = op;
    double pairs = pairs_of(n, op);
    switch (n) {
    case NUMBER_matmul:
        return 2.0 * (double)m->m * (double)m->n * (double)m->k;
    case NUMBER_grouped_matmul:
        return 2.0 * (double)g->row[g->experts] * (double)g->n * (double)g->k;
    case NUMBER_attention:
        return 4 * pairs * (double)a->dim;
    case NUMBER_attention_backward:
        return 10 * pairs * (double)a->dim;
    default:
        return 0;
    }
}

static bool is_bf16(enum number n, const void *op)
{
    switch (n) {
#define TYPED(name, field)                                                                                     \
    case NUMBER_##name:                                                                                        \
        return ((const struct name *)op)->field == BF16;
        TYPED(matmul, in)
        TYPED(grouped_matmul, type)
        TYPED(attention, type)
        TYPED(attention_backward, fwd.type)
    default:
        return false;
    }
}

static struct product product_of(enum number n, const void *op)
{
    const struct matmul *m = op;
    const struct grouped_matmul *g = op;
    struct product p = {.low = is_bf16(n, op)};
    if (n == NUMBER_grouped_matmul) {
        p.use = (int)g->kind;
        p.experts = g->experts;
        p.n = g->n;
        p.k = g->k;
    } else {
        p.use = m->tb ? GROUPED_FORWARD : m->ta ? GROUPED_WEIGHT : GROUPED_INPUT;
        p.n = m->tb ? m->n : m->ta ? m->m : m->k;
        p.k = m->tb ? m->k : m->n;
    }
    return p;
}

static struct spent *find_product(enum number n, const void *op)
{
    struct product want = product_of(n, op), *p = products;
    while (p < products + product_count && (p->use != want.use || p->experts != want.experts ||
                                            p->n != want.n || p->k != want.k || p->low != want.low))
        p++;
    if (p == products + product_count && product_count < PRODUCTS)
        products[product_count++] = want;
    return p < products + product_count ? &p->spent : NULL;
}

/* The first step touches new memory and compiles products: it counts no more when the forward pass of the
 * second one begins, with an embedding or a norm behind a clip. */
static void warm_up(enum number n)
{
    static enum { FIRST, CLIPPED, WARM } state;
    if (state == FIRST && n == NUMBER_clip)
        state = CLIPPED;
    if (state == CLIPPED && (n == NUMBER_embedding || n == NUMBER_rmsnorm)) {
        state = WARM;
        memset(spent, 0, sizeof spent);
        product_count = 0;
    }
}

static void add_spent(struct spent *to, const struct spent *one)
{
    if (!to)
        return;
    to->calls += one->calls;
    to->seconds += one->seconds;
    to->bytes += one->bytes;
    to->flops += one->flops;
    to->exponentials += one->exponentials;
}

static void watch(const char *name, const void *op, double seconds)
{
    struct access_list list = {0};
    enum number n = NUMBERS;
#define X(known)                                                                                               \
    if (n == NUMBERS && strcmp(name, #known) == 0) {                                                           \
        n = NUMBER_##known;                                                                                    \
        access_##known(&list, op);                                                                             \
    }
    BACKEND_OPS(X)
#undef X
    warm_up(n);
    struct spent *s = &spent[n][is_bf16(n, op)];
    s->name = name;
    struct spent once = {NULL, 1, seconds, bytes_of(&list), flops_of(n, op), pairs_of(n, op)};
    add_spent(s, &once);
    if (n == NUMBER_matmul || n == NUMBER_grouped_matmul)
        add_spent(find_product(n, op), &once);
}

static void print(void)
{
    for (int i = 0; i < 2 * NUMBERS; i++) {
        const struct spent *s = &spent[i / 2][i % 2];
        if (s->calls)
            fprintf(stderr, "profile %s %s %ld %.6f %.0f %.0f %.0f\n", s->name, i % 2 ? "bf16" : "f32",
                    s->calls, s->seconds, s->bytes, s->flops, s->exponentials);
    }
    static const char *const uses[] = {"forward", "dX", "dW"};
    for (const struct product *p = products; p < products + product_count; p++)
        fprintf(stderr, "product %s,%.0ldx[%ld,%ld] %s %ld %.6f %.0f %.0f\n", uses[p->use], (long)p->experts,
                (long)p->n, (long)p->k, p->low ? "bf16" : "f32", p->spent.calls, p->spent.seconds,
                p->spent.bytes, p->spent.flops);
}

__attribute__((constructor)) static void begin(void)
{
    queue_watch = watch;
    atexit(print);
}

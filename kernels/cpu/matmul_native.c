/* SPDX-License-Identifier: MIT */
/* bf16 products with the processor's own instructions, through oneDNN's matmul primitive. A primitive is
 * compiled for one shape, so a thread keeps those it has met. The rows of an expert vary from step to step:
 * piece() keeps the shapes few. */
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "../failure.h"
#include "base/fence.h"
#include "base/memory.h"
#include "cpu.h"
#include "matmul.h"
#include "piece.h"

/* What a primitive is compiled for; compared byte by byte. */
struct shape {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t ta, tb, out, add;
};
struct cached {
    struct shape shape;
    uint64_t used;
    dnnl_primitive_t primitive;
    dnnl_memory_t a, b, c, scratchpad;
    int64_t scratchpad_floats;
};
enum { CACHE = 256 };

static dnnl_engine_t engine(void)
{
    static dnnl_engine_t one;
#pragma omp critical(moekit_dnnl_engine)
    if (!one && dnnl_engine_create(&one, dnnl_cpu, 0) != dnnl_success)
        one = NULL;
    return one;
}

static bool describe(dnnl_memory_desc_t *desc, int64_t rows, int64_t columns, int64_t ld, bool transposed,
                     dnnl_data_type_t type)
{
    dnnl_dims_t dims = {rows, columns}, strides = {transposed ? 1 : ld, transposed ? ld : 1};
    return dnnl_memory_desc_init_by_strides(desc, 2, dims, type, strides) == dnnl_success;
}

static dnnl_primitive_attr_t attributes(bool add)
{
    dnnl_primitive_attr_t attr = NULL;
    dnnl_post_ops_t post = NULL;
    bool ok = dnnl_primitive_attr_create(&attr) == dnnl_success &&
              dnnl_post_ops_create(&post) == dnnl_success &&
              dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
              (!add || (dnnl_post_ops_append_sum(post, 1) == dnnl_success &&
                        dnnl_primitive_attr_set_post_ops(attr, post) == dnnl_success));
    if (post)
        dnnl_post_ops_destroy(post);
    if (!ok && attr)
        dnnl_primitive_attr_destroy(attr);
    return ok ? attr : NULL;
}

static void forget(struct cached *e)
{
    if (e->primitive)
        dnnl_primitive_destroy(e->primitive);
    for (int i = 0; i < 4; i++) {
        dnnl_memory_t m = (dnnl_memory_t[]){e->a, e->b, e->c, e->scratchpad}[i];
        if (m)
            dnnl_memory_destroy(m);
    }
    *e = (struct cached){0};
}

static bool bind_memory(struct cached *e, const dnnl_memory_desc_t *a, const dnnl_memory_desc_t *b,
                        const dnnl_memory_desc_t *c, const dnnl_memory_desc_t *scratchpad)
{
    e->scratchpad_floats = (int64_t)(dnnl_memory_desc_get_size(scratchpad) + 3) / 4;
    return dnnl_memory_create(&e->a, a, engine(), DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&e->b, b, engine(), DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&e->c, c, engine(), DNNL_MEMORY_NONE) == dnnl_success &&
           dnnl_memory_create(&e->scratchpad, scratchpad, engine(), DNNL_MEMORY_NONE) == dnnl_success;
}

static bool compile(struct cached *e, const struct shape *s)
{
    dnnl_memory_desc_t a, b, c;
    dnnl_matmul_desc_t op;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_attr_t attr = attributes(s->add);
    bool ok = attr && engine() && describe(&a, s->m, s->k, s->lda, s->ta, dnnl_bf16) &&
              describe(&b, s->k, s->n, s->ldb, s->tb, dnnl_bf16) &&
              describe(&c, s->m, s->n, s->ldc, false, s->out == F32 ? dnnl_f32 : dnnl_bf16) &&
              dnnl_matmul_desc_init(&op, &a, &b, NULL, &c) == dnnl_success &&
              dnnl_primitive_desc_create(&desc, &op, attr, engine(), NULL) == dnnl_success &&
              dnnl_primitive_create(&e->primitive, desc) == dnnl_success &&
              bind_memory(e, &a, &b, &c, dnnl_primitive_desc_query_md(desc, dnnl_query_scratchpad_md, 0));
    if (desc)
        dnnl_primitive_desc_destroy(desc);
    if (attr)
        dnnl_primitive_attr_destroy(attr);
    e->shape = *s;
    if (!ok)
        forget(e);
    return ok;
}

static struct cached *find(const struct shape *s)
{
    static _Thread_local struct cached *cache;
    static _Thread_local uint64_t clock;
    if (!cache)
        cache = xcalloc(CACHE, sizeof *cache);
    struct cached *oldest = cache;
    clock++;
    for (struct cached *e = cache; e < cache + CACHE; e++) {
        if (e->primitive && memcmp(&e->shape, s, sizeof *s) == 0) {
            e->used = clock;
            return e;
        }
        oldest = e->used < oldest->used ? e : oldest;
    }
    forget(oldest);
    oldest->used = clock;
    return compile(oldest, s) ? oldest : NULL;
}

static void execute(const struct shape *s, void *a, void *b, void *c)
{
    static _Thread_local dnnl_stream_t stream;
    struct cached *e = find(s);
    if (!e || (!stream && dnnl_stream_create(&stream, engine(), dnnl_stream_default_flags) != dnnl_success)) {
        failure_set("oneDNN has no bf16 product of %lld x %lld x %lld; MOEKIT_BF16=convert does without",
                    (long long)s->m, (long long)s->n, (long long)s->k);
        return;
    }
    fence_look(a, s->ta ? s->k : s->m, (size_t)(s->ta ? s->m : s->k) * 2, (size_t)s->lda * 2);
    fence_look(b, s->tb ? s->n : s->k, (size_t)(s->tb ? s->k : s->n) * 2, (size_t)s->ldb * 2);
    fence_look(c, s->m, (size_t)s->n * type_bytes(s->out), (size_t)s->ldc * type_bytes(s->out));
    dnnl_memory_set_data_handle(e->a, a);
    dnnl_memory_set_data_handle(e->b, b);
    dnnl_memory_set_data_handle(e->c, c);
    dnnl_memory_set_data_handle(e->scratchpad, scratch(SCRATCH_F, e->scratchpad_floats + 1));
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, e->a},
                              {DNNL_ARG_WEIGHTS, e->b},
                              {DNNL_ARG_DST, e->c},
                              {DNNL_ARG_SCRATCHPAD, e->scratchpad}};
    if (dnnl_primitive_execute(e->primitive, stream, 4, args) != dnnl_success)
        failure_set("a bf16 product failed in oneDNN");
}

/* A shape is compiled once, and calls of it pack B once: so a tile's ragged rows are cut into a multiple of
 * STEP and a rest, which is padded with zeros to STEP; and a sum's ragged K likewise. Of 305 rows, 288 and
 * 17. */
enum { STEP = 32, MOST = 512 };
static int64_t piece(int64_t left)
{
    return left >= MOST ? MOST : left < STEP ? left : left / STEP * STEP;
}

/* A copy of [rows, width] as [STEP, width], the rest zeros. */
static void *padded(int slot, const void *x, int64_t ld, int64_t rows, int64_t width, enum type type)
{
    size_t bytes = (size_t)width * type_bytes(type);
    char *to = (char *)scratch(slot, STEP * width);
    for (int64_t r = 0; r < rows; r++)
        memcpy(to + (size_t)r * bytes, at(x, r * ld, type), bytes);
    memset(to + (size_t)rows * bytes, 0, (size_t)(STEP - rows) * bytes);
    return to;
}

/* m < STEP rows of A and C. */
static void few_rows(struct shape s, enum type out, void *a, void *b, void *c)
{
    int64_t rows = s.m, ldc = s.ldc;
    void *sum = padded(SCRATCH_E, c, ldc, s.add ? rows : 0, s.n, out);
    a = padded(SCRATCH_D, a, s.lda, rows, s.k, BF16);
    s.m = STEP;
    s.lda = s.k;
    s.ldc = s.n;
    execute(&s, a, b, sum);
    for (int64_t r = 0; r < rows; r++)
        memcpy(at(c, r * ldc, out), at(sum, r * s.n, out), (size_t)s.n * type_bytes(out));
}

/* k < STEP terms of a sum; A is transposed: both operands have k rows. */
static void few_terms(struct shape s, void *a, void *b, void *c)
{
    a = padded(SCRATCH_D, a, s.lda, s.k, s.m, BF16);
    b = padded(SCRATCH_E, b, s.ldb, s.k, s.n, BF16);
    s.k = STEP;
    s.lda = s.m;
    s.ldb = s.n;
    execute(&s, a, b, c);
}

/* All of A's rows at once where A is transposed, else all of K. */
void matmul_native(const struct matmul *p, const struct tile *t)
{
    struct shape s = {
        .n = t->n, .lda = p->lda, .ldb = p->ldb, .ldc = p->ldc, .ta = p->ta, .tb = p->tb, .out = p->out};
    bool sum = p->ta && !p->tb && p->out == F32;
    for (int64_t i = 0; i < t->m; i += s.m) {
        s.m = p->ta ? t->m : piece(t->m - i);
        for (int64_t k = 0; k < p->k; k += s.k) {
            int64_t row = t->i + i;
            void *a = at(p->a, p->ta ? k * p->lda + row : row * p->lda + k, BF16);
            void *b = at(p->b, p->tb ? t->j * p->ldb + k : k * p->ldb + t->j, BF16);
            void *c = at(p->c, row * p->ldc + t->j, p->out);
            s.k = sum ? piece(p->k - k) : p->k;
            s.add = p->beta != 0 || k > 0;
            if (!p->ta && s.m < STEP)
                few_rows(s, p->out, a, b, c);
            else if (sum && s.k < STEP)
                few_terms(s, a, b, c);
            else
                execute(&s, a, b, c);
        }
    }
}

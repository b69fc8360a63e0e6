/* SPDX-License-Identifier: MIT */
/* Matrix products. A product, or a whole grouped product, is a list of output tiles; the threads take
 * tiles as they come, the largest products first, and one thread computes a tile from start to end, so who
 * computed it does not show.
 *
 * A tile is computed by our own kernel on x86 with AVX-512 (matmul_words.c), and else by oneDNN, which
 * then runs on one thread inside a parallel region: f32 goes to sgemm as it lies, but for long products
 * with a transposed A, whose strided columns are first copied into compact panels: sgemm packs those
 * faster.
 *
 * bf16 has three ways: `convert` makes f32 of it, `native` uses the processor's bf16 instructions,
 * `onednn` does so by oneDNN (matmul_native.c), which is native's way where the processor multiplies tiles
 * (AMX). MOEKIT_BF16 names one; unset, it is native where the processor has the instructions. Attention has its
 * own products (micro.h), and follows where it is asked to convert. */
#include <omp.h>
#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#include "../failure.h"
#include "base/fence.h"
#include "base/memory.h"
#include "base/num.h"
#include "cpu.h"
#include "matmul.h"
#include "micro.h"
#include "piece.h"

enum { DEPTH = 256 /* K of a converted panel: two of 512 rows fill a 1 MiB L2 */ };

/* A product cut into tiles of the list. */
struct tiled {
    struct matmul product;
    int64_t mb, nb; /* a tile */
    int64_t first;  /* number of its first tile */
};

/* What oneDNN may use of the processor (ONEDNN_MAX_CPU_ISA bounds it), and what was asked for. */
struct abilities {
    bool words, pairs; /* our kernel, with f32 and with pairs of bf16 */
    bool convert;      /* bf16 in f32 */
    bool native;       /* bf16 by instructions that it has */
};

static bool has(dnnl_cpu_isa_t wanted)
{
    return (dnnl_get_effective_cpu_isa() & wanted) == wanted;
}

static struct abilities find_ways(void)
{
    const char *way = getenv("MOEKIT_BF16");
    bool words = matmul_words_rows(&(struct matmul){0}, PACK_F32) > 0 && has(dnnl_cpu_isa_avx512_core),
         bf16 = has(dnnl_cpu_isa_avx512_core_bf16);
    bool any = !way || !*way, onednn = !any && strcmp(way, "onednn") == 0;
    struct abilities w = {.words = words, .convert = any ? !bf16 : strcmp(way, "convert") == 0};
    w.native = words && bf16 && !w.convert;
    w.pairs = words && bf16 && !onednn && !has(dnnl_cpu_isa_avx512_core_amx);
    if (!any && !w.convert && !onednn && strcmp(way, "native") != 0)
        failure_set("MOEKIT_BF16 is '%.40s', none of native, onednn and convert", way);
    return w;
}

static const struct abilities *ways(void)
{
    static struct abilities found;
    static bool known;
    if (!known)
        found = find_ways();
    known = true;
    return &found;
}

/* Those of attention are multiplied as they lie: that oneDNN does it for other products is no matter. */
bool matmul_has_pairs(void)
{
    return ways()->native && micro_has_pairs();
}

/* Whether our own kernel computes it. In f32 sgemm does better with few columns, most of which would be
 * padding. */
static bool of_words(const struct matmul *p)
{
    enum { FEW = 16 };
    if (p->in == F32)
        return ways()->words && p->n > FEW;
    return ways()->pairs || (ways()->words && ways()->convert);
}

static enum packing packing(const struct matmul *p)
{
    return p->in == F32 ? PACK_F32 : ways()->convert ? PACK_WIDENED : PACK_PAIRS;
}

/* Row-major f32 product on the calling thread: C = alpha·op(A)·op(B) + beta·C. */
static void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                    const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    fence_look(a, ta ? k : m, (size_t)(ta ? m : k) * sizeof *a, (size_t)lda * sizeof *a);
    fence_look(b, tb ? n : k, (size_t)(tb ? k : n) * sizeof *b, (size_t)ldb * sizeof *b);
    fence_look(c, m, (size_t)n * sizeof *c, (size_t)ldc * sizeof *c);
    dnnl_status_t status =
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    if (status != dnnl_success)
        failure_set("matrix product failed: oneDNN status %d", status);
}

static void zero_tile(const struct matmul *p, const struct tile *t)
{
    for (int64_t r = 0; r < t->m; r++)
        memset(at(p->c, (t->i + r) * p->ldc + t->j, p->out), 0, (size_t)t->n * type_bytes(p->out));
}

static void tile_f32(const struct matmul *p, const struct tile *t)
{
    const float *a = (const float *)p->a + (p->ta ? t->i : t->i * p->lda);
    const float *b = (const float *)p->b + (p->tb ? t->j * p->ldb : t->j);
    product(p->ta, p->tb, t->m, t->n, p->k, 1, a, p->lda, b, p->ldb, p->beta,
            (float *)p->c + t->i * p->ldc + t->j, p->ldc);
}

/* What a thread's panel holds, so that the next tile of the same rows need not convert them again. */
struct panel {
    const char *src;
    int64_t ld, rows, columns;
    uint64_t serial; /* of the operation: the contents may change between two */
};

static const float *panel(struct panel *have, int slot, enum type type, const void *p, int64_t first,
                          int64_t ld, int64_t rows, int64_t columns, uint64_t serial)
{
    size_t bytes = type_bytes(type);
    const char *src = (const char *)p + (size_t)first * bytes;
    struct panel want = {.src = src, .ld = ld, .rows = rows, .columns = columns, .serial = serial};
    float *to = scratch(slot, rows * columns);
    if (want.src == have->src && ld == have->ld && rows == have->rows && columns == have->columns &&
        serial == have->serial)
        return to;
    for (int64_t r = 0; r < rows; r++) {
        const char *row = want.src + (size_t)(r * ld) * bytes;
        if (type == F32)
            memcpy(to + r * columns, row, (size_t)columns * bytes);
        else
            widen(to + r * columns, (const uint16_t *)row, columns);
    }
    *have = want;
    return to;
}

static void read_tile(const struct matmul *p, const struct tile *t, float *c)
{
    for (int64_t r = 0; r < t->m; r++)
        widen(c + r * t->n, (const uint16_t *)p->c + (t->i + r) * p->ldc + t->j, t->n);
}

static void write_tile(const struct matmul *p, const struct tile *t, const float *c)
{
    for (int64_t r = 0; r < t->m; r++)
        narrow((uint16_t *)p->c + (t->i + r) * p->ldc + t->j, c + r * t->n, t->n);
}

static void tile_panels(const struct matmul *p, const struct tile *t, uint64_t serial)
{
    static _Thread_local struct panel have_a, have_b;
    bool direct = p->out == F32;
    float *c = direct ? (float *)p->c + t->i * p->ldc + t->j : scratch(SCRATCH_C, t->m * t->n);
    if (!direct && p->beta != 0)
        read_tile(p, t, c);
    for (int64_t k = 0; k < p->k; k += DEPTH) {
        int64_t depth = min64(DEPTH, p->k - k), lda = p->ta ? t->m : depth, ldb = p->tb ? depth : t->n;
        const float *a =
            p->ta ? panel(&have_a, SCRATCH_A, p->in, p->a, k * p->lda + t->i, p->lda, depth, t->m, serial)
                  : panel(&have_a, SCRATCH_A, p->in, p->a, t->i * p->lda + k, p->lda, t->m, depth, serial);
        const float *b =
            p->tb ? panel(&have_b, SCRATCH_B, p->in, p->b, t->j * p->ldb + k, p->ldb, t->n, depth, serial)
                  : panel(&have_b, SCRATCH_B, p->in, p->b, k * p->ldb + t->j, p->ldb, depth, t->n, serial);
        product(p->ta, p->tb, t->m, t->n, depth, 1, a, lda, b, ldb, k ? 1 : p->beta, c, direct ? p->ldc : t->n);
    }
    if (!direct)
        write_tile(p, t, c);
}

static struct product_tile find_tile(const struct tiled *list, int64_t count, int64_t number)
{
    int64_t lo = 0, hi = count - 1;
    while (lo < hi) {
        int64_t mid = (lo + hi + 1) / 2;
        if (list[mid].first <= number)
            lo = mid;
        else
            hi = mid - 1;
    }
    const struct matmul *p = &list[lo].product;
    int64_t mb = list[lo].mb, nb = list[lo].nb, across = ceil_div(p->n, nb);
    int64_t i = (number - list[lo].first) / across * mb, j = (number - list[lo].first) % across * nb;
    return (struct product_tile){p, {i, j, min64(mb, p->m - i), min64(nb, p->n - j)}};
}

static void run_tile(const struct product_tile *now, const struct product_tile *soon, uint64_t serial)
{
    const struct matmul *p = now->product;
    const struct tile *t = &now->tile;
    if (p->k == 0 && p->beta == 0)
        zero_tile(p, t);
    else if (p->k > 0 && of_words(p))
        matmul_words(p, t, soon, packing(p));
    else if (p->k > 0 && p->in == F32 && !(p->ta && p->k > DEPTH))
        tile_f32(p, t);
    else if (p->k > 0 && p->in == BF16 && !ways()->convert)
        matmul_native(p, t);
    else if (p->k > 0)
        tile_panels(p, t, serial);
}

static int64_t tiles_of(const struct tiled *t)
{
    return ceil_div(t->product.m, t->mb) * ceil_div(t->product.n, t->nb);
}

/* The last rows of C, about a sixteenth, as a product of their own, if they are worth it. */
static int64_t split_last(struct tiled *list, int64_t count)
{
    enum { FEW = 16 };
    struct matmul *p = &list[count - 1].product, last = *p;
    int64_t rows = p->m / 16;
    if (rows < FEW)
        return count;
    p->m -= rows;
    last.m = rows;
    last.a = at(last.a, p->m * (p->ta ? 1 : p->lda), p->in);
    last.c = at(last.c, p->m * p->ldc, p->out);
    list[count] = (struct tiled){.product = last};
    return count + 1;
}

/* The largest tile. With our kernel, what fits the caches (matmul.h). With sgemm 512 rows and columns, but
 * where oneDNN sums in bf16: there a tile is read as well as written, and stays in the cache with 256. */
static struct tile largest(const struct matmul *p)
{
    enum { LARGEST = 512, SUMMED = 256, COLUMNS = 2048 };
    bool summed = p->in == BF16 && !ways()->convert && p->ta;
    if (of_words(p))
        return (struct tile){.m = matmul_words_rows(p, packing(p)), .n = COLUMNS};
    return summed ? (struct tile){.m = SUMMED, .n = SUMMED} : (struct tile){.m = LARGEST, .n = LARGEST};
}

enum { SMALLEST = 128, LAST = 256, LAST_ROWS = 64, STEP = 32 }; /* sides of tiles */

/* A side cut evenly into parts of at most `most`, multiples of `step`: as many for each thread, if they are
 * not too small for it. */
static int64_t even_side(int64_t side, int64_t most, int64_t threads, int64_t step)
{
    int64_t parts = ceil_div(side, most), fair = round_up(parts, threads);
    return min64(most, round_up(ceil_div(side, side / fair < SMALLEST ? parts : fair), step));
}

/* For qsort: the most work first. */
static int by_work(const void *a, const void *b)
{
    const struct matmul *x = &((const struct tiled *)a)->product, *y = &((const struct tiled *)b)->product;
    int64_t one = x->m * x->k, other = y->m * y->k;
    return one != other ? (one < other) - (one > other) : (x->c > y->c) - (x->c < y->c);
}

/* Halves the longer side of every tile until there are enough of them to share; the last of the products
 * are cut smaller still, so that the threads end together. What is one product has its rows shared
 * evenly, and then few tiles are enough: less is packed. */
static int64_t cut(struct tiled *list, int64_t count, int64_t threads)
{
    int64_t fair = count <= 2 ? threads : 1, wanted = threads == 1 ? 1 : count <= 2 ? 2 * threads : 4 * threads;
    struct tile most = largest(&list->product);
    bool any_rows = of_words(&list->product) && !list->product.ta; /* no two share a line of A */
    int64_t tiles;
    for (;; *(most.m > most.n ? &most.m : &most.n) /= 2) {
        tiles = 0;
        for (int64_t i = 0; i < count; i++) {
            bool last = wanted > 1 && i >= count - max64(1, count / 8);
            list[i].mb = even_side(list[i].product.m, last ? min64(LAST_ROWS, most.m) : most.m, last ? 1 : fair,
                                   any_rows ? 1 : STEP);
            list[i].nb =
                even_side(list[i].product.n, last ? max64(SMALLEST, min64(LAST, most.n / 2)) : most.n, 1, STEP);
            list[i].first = tiles;
            tiles += tiles_of(&list[i]);
        }
        if (tiles >= wanted || (most.m <= SMALLEST && most.n <= SMALLEST))
            return tiles;
    }
}

static void run(struct tiled *list, int64_t count)
{
    static uint64_t operations;
    uint64_t serial = ++operations;
    int threads = omp_get_max_threads();
    if (threads > 1)
        qsort(list, (size_t)count, sizeof *list, by_work);
    if (count == 1 && threads > 1)
        count = split_last(list, count);
    int64_t tiles = cut(list, count, threads);
#pragma omp parallel for schedule(dynamic, 1) if (tiles > 1)
    for (int64_t t = 0; t < tiles; t++) {
        struct product_tile now = find_tile(list, count, t), soon = {0};
        if (t + threads < tiles) /* as a rule, the threads take turns */
            soon = find_tile(list, count, t + threads);
        run_tile(&now, &soon, serial);
    }
}

static void cpu_matmul(struct stream *s, const struct matmul *p)
{
    struct tiled one[2] = {{.product = *p}};
    if (p->m > 0 && p->n > 0)
        run(one, 1);
}

/* Expert i's rows as a product of its own. */
static struct matmul expert(const struct grouped_matmul *p, int64_t i, int64_t first, int64_t rows)
{
    void *x = at(p->x, first * p->ldx, p->type), *y = at(p->y, first * p->ldy, p->type);
    void *w = at(p->w, i * p->stride, p->kind == GROUPED_WEIGHT ? F32 : p->type);
    switch (p->kind) {
    case GROUPED_FORWARD: /* y = x·Wᵀ */
        return OP(matmul, .m = rows, .n = p->n, .k = p->k, .a = x, .lda = p->ldx, .b = w, .ldb = p->k,
                  .tb = true, .c = y, .ldc = p->ldy, .in = p->type, .out = p->type);
    case GROUPED_INPUT: /* x = y·W */
        return OP(matmul, .m = rows, .n = p->k, .k = p->n, .a = y, .lda = p->ldy, .b = w, .ldb = p->k, .c = x,
                  .ldc = p->ldx, .in = p->type, .out = p->type);
    default: /* W = yᵀ·x + beta·W */
        return OP(matmul, .m = p->n, .n = p->k, .k = rows, .a = y, .lda = p->ldy, .ta = true, .b = x,
                  .ldb = p->ldx, .c = w, .ldc = p->k, .beta = p->beta, .in = p->type, .out = F32);
    }
}

static void cpu_grouped_matmul(struct stream *s, const struct grouped_matmul *p)
{
    struct tiled *list = xmalloc((size_t)(p->experts + 2) * sizeof *list);
    int64_t count = 0;
    for (int64_t i = 0; i < p->experts; i++) {
        int64_t first = counted(p->rows, &p->row[i]), rows = counted(p->rows, &p->row[i + 1]) - first;
        struct matmul one = expert(p, i, first, rows);
        if (one.m > 0 && one.n > 0 && (rows > 0 || p->beta == 0)) /* W of none is all zeros */
            list[count++] = (struct tiled){.product = one};
    }
    if (count)
        run(list, count);
    free(list);
}

void matmul_install(struct backend *be)
{
    be->matmul = cpu_matmul;
    be->grouped_matmul = cpu_grouped_matmul;
}

/* SPDX-License-Identifier: MIT */
/* usage: products [BACKEND]
 *
 * The library's products alone, as the backend (cuda) asks for them: every form, types and alignments that
 * choose different algorithms, against plain loops. Integers are small enough for f32 to have every sum
 * exactly, so results must be equal; numbers of 24 bits show whether f32 is cut to TF32's 11. Prints TAP. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "number.h"

static const struct backend *be;
static struct stream *stream;
static int tests, wrong;
static uint64_t seed = 1;

static int drawn(int below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int)((seed >> 33) % (uint64_t)below);
}

static void stop(void)
{
    printf("Bail out! %s\n", error_text());
    exit(STATUS_ENV);
}

/* A matrix of integers in [-range, range] on both sides. */
struct matrix {
    void *host, *device;
    size_t bytes;
};

static struct matrix matrix_of(int64_t count, enum type type, int range)
{
    struct matrix m = {.bytes = (size_t)count * type_bytes(type)};
    m.host = xmalloc(m.bytes + 1);
    for (int64_t i = 0; i < count; i++)
        store(m.host, i, type, (float)(drawn(2 * range + 1) - range));
    m.device = be->alloc(m.bytes);
    if (!m.device)
        stop();
    be->upload(stream, m.device, m.host, m.bytes);
    return m;
}

static void matrix_end(struct matrix *m)
{
    free(m->host);
    be->free(m->device, m->bytes);
}

/* The plain loops, on the host, into c. */
static void multiply(const struct matmul *p, const void *a, const void *b, void *c)
{
#pragma omp parallel for
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++) {
            double sum = p->beta != 0 ? (double)load(c, i * p->ldc + j, p->out) : 0;
            for (int64_t k = 0; k < p->k; k++)
                sum += (double)load(a, p->ta ? k * p->lda + i : i * p->lda + k, p->in) *
                       (double)load(b, p->tb ? j * p->ldb + k : k * p->ldb + j, p->in);
            store(c, i * p->ldc + j, p->out, (float)sum);
        }
}

/* Whether the device's product of the matrices is the host's, and the same when it is made again. `range`: of
 * the integers. */
static bool same(struct matmul p, int64_t pad, int range)
{
    p.lda = (p.ta ? p.m : p.k) + pad;
    p.ldb = (p.tb ? p.k : p.n) + pad;
    p.ldc = p.n + pad;
    struct matrix a = matrix_of((p.ta ? p.k : p.m) * p.lda, p.in, range),
                  b = matrix_of((p.tb ? p.n : p.k) * p.ldb, p.in, range),
                  c = matrix_of(p.m * p.ldc, p.out, range);
    void *first = xmalloc(c.bytes + 1), *second = xmalloc(c.bytes + 1);
    p.a = a.device, p.b = b.device, p.c = c.device;
    for (int turn = 0; turn < 2; turn++) {
        be->upload(stream, c.device, c.host, c.bytes);
        be->matmul(stream, &p);
        if (be->download(stream, turn ? second : first, c.device, c.bytes) < 0)
            stop();
    }
    multiply(&p, a.host, b.host, c.host);
    bool ok = memcmp(first, c.host, c.bytes) == 0 && memcmp(first, second, c.bytes) == 0;
    matrix_end(&a);
    matrix_end(&b);
    matrix_end(&c);
    free(first);
    free(second);
    return ok;
}

static const char *const names[] = {"f32", "bf16"};

/* All forms of a shape; pads that leave rows aligned to 16 bytes, and that do not. */
static void check(int64_t m, int64_t n, int64_t k, enum type in, enum type out, int range)
{
    static const int64_t pads[] = {0, 8, 1};
    int bad = 0, made = 0;
    for (int form = 0; form < 8; form++)
        for (size_t i = 0; i < sizeof pads / sizeof *pads; i++) {
            struct matmul p = OP(matmul, .m = m, .n = n, .k = k, .ta = form & 1, .tb = form & 2,
                                 .beta = form & 4 ? 1 : 0, .in = in, .out = out);
            bool ok = same(p, pads[i], range);
            bad += !ok;
            made++;
            if (!ok)
                printf("# wrong: %s%s%s, rows %lld elements longer\n", form & 1 ? "a turned, " : "",
                       form & 2 ? "b turned, " : "", form & 4 ? "added" : "written", (long long)pads[i]);
        }
    printf("%sok %d - %s to %s, %lld x %lld x %lld: %d forms and alignments are exact\n", bad ? "not " : "",
           ++tests, names[in], names[out], (long long)m, (long long)n, (long long)k, made);
    wrong += bad != 0;
}

/* 1 + 2^-23 times the identity: TF32 and bf16 would make it 1. */
static void check_f32(void)
{
    enum { N = 64 };
    float a[N * N], identity[N * N] = {0}, c[N * N];
    for (int i = 0; i < N * N; i++)
        a[i] = (float)(1 + drawn(1 << 20) * 0x1p-23);
    for (int i = 0; i < N; i++)
        identity[i * N + i] = 1;
    float *da = be->alloc(sizeof a), *di = be->alloc(sizeof a), *dc = be->alloc(sizeof a);
    if (!da || !di || !dc)
        stop();
    be->upload(stream, da, a, sizeof a);
    be->upload(stream, di, identity, sizeof identity);
    be->matmul(stream, &OP(matmul, .m = N, .n = N, .k = N, .a = da, .lda = N, .b = di, .ldb = N, .c = dc,
                           .ldc = N, .in = F32, .out = F32));
    if (be->download(stream, c, dc, sizeof c) < 0)
        stop();
    bool ok = memcmp(a, c, sizeof a) == 0;
    printf("%sok %d - f32 keeps all 24 bits\n", ok ? "" : "not ", ++tests);
    wrong += !ok;
    be->free(da, sizeof a);
    be->free(di, sizeof a);
    be->free(dc, sizeof a);
}

int main(int argc, char **argv)
{
    static const int64_t shapes[][3] = {{1, 1, 1},    {3, 8, 16},    {64, 64, 64},  {65, 130, 17},
                                        {17, 3, 300}, {128, 64, 31}, {16, 24, 2048}};
    be = backend_open(argc > 1 ? argv[1] : "cuda", 0, 1);
    if (!be)
        stop();
    stream = be->stream_new();
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int64_t *s = shapes[i];
        check(s[0], s[1], s[2], F32, F32, 30); /* sums stay below 2^24 */
        check(s[0], s[1], s[2], BF16, F32, 30);
        check(s[0], s[1], s[2], BF16, BF16, 30); /* and are rounded once */
    }
    check_f32();
    printf("1..%d\n", tests);
    return wrong != 0;
}

/* SPDX-License-Identifier: MIT */
/* For unit tests of the operations of backends. A case is a function that builds its inputs, runs operations
 * and shows results; it runs first on `ref`, which records what is shown, and then on every other backend,
 * which is compared, in f32 and in bf16:
 *
 *     static void case_scale(struct world *w)
 *     {
 *         float *x = floats(w, 100, 1);
 *         w->be->scale(w->s, &OP(scale, .count = 100, .x = x, .scale = 2));
 *         show_floats(w, "scale", x, 100);
 *     }
 *     CASE(scale)                          makes test_scale() */
#ifndef T_KERNELS_H
#define T_KERNELS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend.h"
#include "base/error.h"
#include "base/memory.h"
#include "number.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* What a case runs in. */
struct world {
    const struct backend *be;
    struct stream *s;
    enum type type; /* of act() and show() */
    uint64_t seed;
    struct {
        void *p;
        size_t bytes;
    } block[64]; /* of device memory, until drop() */
    int blocks;
    bool record;
    double *shown; /* what ref showed */
    int64_t count, at, room;
};

static inline double uniform(struct world *w) /* in [-1, 1) */
{
    w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(w->seed >> 33) * 0x1p-30 - 1;
}

/* Device memory with what `host` holds; NULL: zeros. */
static inline void *device(struct world *w, const void *host, size_t bytes)
{
    void *p = w->be->alloc(bytes);
    assert_non_null(p);
    assert_true(w->blocks < (int)COUNT(w->block));
    w->block[w->blocks].p = p;
    w->block[w->blocks++].bytes = bytes;
    if (host)
        w->be->upload(w->s, p, host, bytes);
    return p;
}

/* Numbers in [-scale, scale). */
static inline void *values(struct world *w, int64_t count, enum type type, double scale)
{
    void *host = xmalloc((size_t)(count + 1) * 4);
    for (int64_t i = 0; i < count; i++)
        store(host, i, type, (float)(scale * uniform(w)));
    void *p = device(w, host, (size_t)count * type_bytes(type));
    free(host);
    return p;
}

static inline void *act(struct world *w, int64_t count)
{
    return values(w, count, w->type, 1);
}

static inline float *floats(struct world *w, int64_t count, double scale)
{
    return values(w, count, F32, scale);
}

/* Integers in [from, to). */
static inline int32_t *ints(struct world *w, int64_t count, int32_t from, int32_t to)
{
    int32_t *host = xmalloc((size_t)(count + 1) * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        host[i] = from + (int32_t)((uniform(w) + 1) / 2 * (to - from));
    int32_t *p = device(w, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

/* Records or compares one number: an error of tol · (1 + its size) is allowed, two NaNs are equal. */
static inline void one(struct world *w, const char *what, int64_t i, double value, double tol)
{
    if (w->record) {
        if (w->count == w->room)
            w->shown = xrealloc(w->shown, (size_t)(w->room = 2 * w->room + 1024), sizeof *w->shown);
        w->shown[w->count++] = value;
        return;
    }
    assert_true(w->at < w->count);
    double want = w->shown[w->at++], error_size = fabs(value - want), allowed = tol * (1 + fabs(want));
    if (value == want || (isnan(value) && isnan(want)))
        return;
    if (!(error_size <= allowed))
        fail_msg("%s %s %s: element %lld is %.9g, not %.9g", w->be->name, w->type == F32 ? "f32" : "bf16", what,
                 (long long)i, value, want);
}

static inline void download(struct world *w, void *host, const void *p, size_t bytes)
{
    if (w->be->download(w->s, host, p, bytes) != 0)
        fail_msg("%s: %s", w->be->name, error_text());
}

static inline void show_as(struct world *w, const char *what, const void *p, int64_t count, enum type type,
                           double tol)
{
    void *host = xmalloc((size_t)(count + 1) * 4);
    download(w, host, p, (size_t)count * type_bytes(type));
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, load(host, i, type), tol);
    free(host);
}

static inline void show(struct world *w, const char *what, const void *p, int64_t count)
{
    show_as(w, what, p, count, w->type, w->type == F32 ? 2e-5 : 1.0 / 128);
}

static inline void show_floats(struct world *w, const char *what, const float *p, int64_t count)
{
    show_as(w, what, p, count, F32, 5e-5);
}

static inline void show_ints(struct world *w, const char *what, const int32_t *p, int64_t count)
{
    int32_t *host = xmalloc((size_t)(count + 1) * sizeof *host);
    download(w, host, p, (size_t)count * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, host[i], 0);
    free(host);
}

static inline void show_doubles(struct world *w, const char *what, const double *p, int64_t count)
{
    double host[4];
    download(w, host, p, (size_t)count * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        one(w, what, i, host[i], 1e-10);
}

/* Frees what a case has allocated so far. */
static inline void drop(struct world *w)
{
    assert_int_equal(w->be->sync(w->s), 0);
    for (int i = 0; i < w->blocks; i++)
        w->be->free(w->block[i].p, w->block[i].bytes);
    w->blocks = 0;
}

typedef void kernel_case(struct world *);

static inline void play(struct world *w, const char *name, kernel_case *run, enum type type)
{
    w->be = backend_open(name, 0, 2);
    assert_non_null(w->be);
    w->type = type;
    w->seed = 12345;
    w->at = w->blocks = 0;
    w->s = w->be->stream_new();
    run(w);
    assert_int_equal(w->be->sync(w->s), 0);
    drop(w);
    w->be->stream_free(w->s);
}

/* $MOEKIT_BACKEND names the only one that is compared, where it is set. */
static inline bool is_asked_for(const struct backend_kind *kind)
{
    const char *only = getenv("MOEKIT_BACKEND");
    return strcmp(kind->name, "ref") != 0 && (!only || strcmp(kind->name, only) == 0);
}

/* Whether this machine has what the backend computes with. Only cuda may be missing, and not where
 * $MOEKIT_BACKEND asks for it or $MOEKIT_REQUIRE for a gpu. */
static inline bool there_is(const struct backend_kind *kind)
{
    const char *require = getenv("MOEKIT_REQUIRE");
    if (backend_open(kind->name, 0, 1))
        return true;
    if (strcmp(kind->name, "cuda") != 0 || error_status() != STATUS_ENV || getenv("MOEKIT_BACKEND") ||
        (require && strstr(require, "gpu")))
        fail_msg("%s: %s", kind->name, error_text());
    printf("# not on cuda: %s\n", error_text());
    error_clear();
    return false;
}

/* $MOEKIT_TYPE names the only type that cases run with, where it is set. */
static inline bool type_is_asked_for(enum type type)
{
    const char *only = getenv("MOEKIT_TYPE");
    return !only || strcmp(only, type == F32 ? "f32" : "bf16") == 0;
}

static inline void compare(kernel_case *run)
{
    const struct backend_kind *kind;
    for (enum type type = F32; type <= BF16; type++) {
        if (!type_is_asked_for(type))
            continue;
        struct world w = {.record = true};
        play(&w, "ref", run, type);
        w.record = false;
        for (kind = backend_kinds; kind->name; kind++) {
            if (!is_asked_for(kind) || !there_is(kind))
                continue;
            play(&w, kind->name, run, type);
            assert_int_equal(w.at, w.count);
        }
        free(w.shown);
    }
}

#define CASE(name)                                                                                             \
    static void test_##name(void **state)                                                                      \
    {                                                                                                          \
        compare(case_##name);                                                                                  \
    }

/* What main() returns: tests that ran, all of them or those whose names match argv[1]. */
#define RUN_CASES(argc, argv, tests)                                                                           \
    (setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0), (argc) > 1 ? cmocka_set_test_filter((argv)[1]) : (void)0,      \
     cmocka_run_group_tests(tests, NULL, NULL))

/* ---- without a backend: ref computes on the host, so plain arrays will do ---- */

static inline float *plain(struct world *w, int64_t n, double scale)
{
    float *p = xmalloc((size_t)(n + 1) * sizeof *p);
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)(scale * uniform(w));
    return p;
}

#endif

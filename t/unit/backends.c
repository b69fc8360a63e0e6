/* SPDX-License-Identifier: MIT */
/* Backends as such: their table, their memory, and that they give the same bits. */
#include <sys/wait.h>
#include <unistd.h>

#include "base/fence.h"
#include "lib/kernels.h"

static void memory(void **state)
{
    const struct backend *be = backend_open("cpu", 0, 1);
    void *p = be->alloc(1000);
    assert_int_equal((uintptr_t)p % 64, 0);
    be->free(p, 1000);
}

static void table_of_backends(void **state)
{
    int i = 0;
    for (const struct backend_kind *kind; (kind = &backend_kinds[i])->name; i++) {
        if (there_is(kind))
            assert_string_equal(backend_open(kind->name, 0, 1)->name, kind->name);
    }
    assert_true(i >= 3 && backend_kinds[0].automatic);
}

static void unknown_name(void **state)
{
    assert_null(backend_open("gpu", 0, 1));
    assert_int_equal(error_status(), STATUS_USAGE);
    error_clear();
}

/* Host work that takes its time; more is queued behind it than any backend keeps. */
enum { SLOW = 20000 };
static int moves;
static int begin_work(struct host_work *w)
{
    return 0;
}
static int move_work(struct host_work *w)
{
    return ++moves > SLOW;
}
static void end_work(struct host_work *w)
{
}

static const struct host_work a_wait = {.what = "a wait",
                                        .group = "none",
                                        .start = begin_work,
                                        .move = move_work,
                                        .await = begin_work,
                                        .release = end_work};

static void twice_and_turned(const struct backend *be)
{
    enum { COUNT = 100, TURNS = 2101 };
    float in[COUNT], out[COUNT];
    for (int i = 0; i < COUNT; i++)
        in[i] = (float)i;
    float *p = be->alloc(sizeof in);
    struct stream *s = be->stream_new();
    be->upload(NULL, p, in, sizeof in);
    be->scale(NULL, &OP(scale, .count = COUNT, .x = p, .scale = 2));
    moves = 0;
    struct host_work work = a_wait;
    be->host_work(s, &work);
    for (int i = 0; i < TURNS; i++)
        be->scale(s, &OP(scale, .count = COUNT, .x = p, .scale = -1));
    assert_true(moves > SLOW); /* the host has waited */
    assert_int_equal(be->download(s, out, p, sizeof out), 0);
    for (int i = 0; i < COUNT; i++)
        assert_true(out[i] == -2 * in[i]);
    be->zero(NULL, p, sizeof in);
    assert_int_equal(be->download(NULL, out, p, sizeof out), 0);
    assert_true(out[COUNT - 1] == 0);
    be->stream_free(s);
    be->free(p, sizeof in);
}

/* No stream is one that is done at once; a long one is bounded. */
static void streams_of_all(void **state)
{
    int tried = 0;
    for (const struct backend_kind *kind = backend_kinds; kind->name; kind++)
        if (there_is(kind)) {
            twice_and_turned(backend_open(kind->name, 0, 1));
            tried++;
        }
    assert_true(tried >= 3);
}

/* The same product gives the same bits. */
static void same_bits(void **state)
{
    enum { M = 700, N = 520, K = 300 };
    struct world w = {.seed = 13};
    float *a = plain(&w, M * K, 1), *b = plain(&w, N * K, 1), *c[3];
    for (int i = 0; i < 3; i++) {
        const struct backend *be = backend_open("cpu", 0, 2);
        c[i] = plain(&w, M * N, 1);
        be->matmul(NULL, &OP(matmul, .m = M, .n = N, .k = K, .tb = true, .a = a, .lda = K, .b = b, .ldb = K,
                             .c = c[i], .ldc = N, .in = F32, .out = F32));
        assert_memory_equal(c[i], c[0], M * N * sizeof(float));
    }
    free(a), free(b), free(c[0]), free(c[1]), free(c[2]);
}

/* Two streams take turns, by events, on what they share: each sees what the other did, and not what it does
 * after. */
static void streams_in_turn(void **state)
{
    enum { N = 5000, TURNS = 4 };
    static float host[N], got[N];
    const struct backend_kind *kind;
    for (kind = backend_kinds; kind->name; kind++) {
        if (!is_asked_for(kind) || !there_is(kind))
            continue;
        const struct backend *be = backend_open(kind->name, 0, 2);
        struct stream *a = be->stream_new(), *b = be->stream_new();
        struct event *written = be->event_new(), *taken = be->event_new();
        float *x = be->alloc(sizeof host), *y = be->alloc(TURNS * sizeof host);
        for (int turn = 0; turn < TURNS; turn++) {
            for (int i = 0; i < N; i++)
                host[i] = (float)(i + turn);
            be->event_wait(a, taken);
            be->upload(a, x, host, sizeof host);
            be->scale(a, &(struct scale){N, x, 2});
            be->event_record(written, a);
            be->event_wait(b, written);
            be->copy(b, y + turn * N, x, sizeof host);
            be->event_record(taken, b);
        }
        for (int turn = 0; turn < TURNS; turn++) {
            assert_int_equal(be->download(b, got, y + turn * N, sizeof got), 0);
            for (int i = 0; i < N; i++)
                assert_true(got[i] == (float)(2 * (i + turn)));
        }
        assert_int_equal(be->sync(a), 0);
        be->free(x, sizeof host);
        be->free(y, TURNS * sizeof host);
        be->event_free(written);
        be->event_free(taken);
        be->stream_free(a);
        be->stream_free(b);
    }
}

/* A graph runs in its turn, also behind work of the host, as often as it is asked to; where an operation in it
 * fails, there is none, and the stream goes on. */
static void graph_of(const struct backend *be)
{
    enum { N = 1000 };
    float host[N], got[N];
    for (int i = 0; i < N; i++)
        host[i] = (float)i;
    struct stream *s = be->stream_new();
    float *x = be->alloc(sizeof host), *y = be->alloc(sizeof host);
    be->upload(s, x, host, sizeof host);
    for (int times = 0; times < 2; times++) { /* as they are, then captured */
        if (times)
            assert_int_equal(be->graph_begin(s), 1);
        be->zero(s, y, sizeof host);
        be->copy(s, y, x, sizeof host);
        be->scale(s, &OP(scale, .count = N, .x = y, .scale = 2));
        be->add(s, &OP(add, .count = N, .a = x, .b = y, .y = x, .type = F32));
    }
    struct graph *g = be->graph_end(s);
    assert_non_null(g);
    moves = 0;
    struct host_work work = a_wait;
    be->graph_run(s, g);
    be->host_work(s, &work);
    be->graph_run(s, g);
    be->scale(s, &OP(scale, .count = N, .x = x, .scale = -1));
    be->graph_run(s, g);
    assert_int_equal(be->download(s, got, x, sizeof got), 0);
    for (int i = 0; i < N; i++)
        assert_true(got[i] == -81 * host[i]);
    be->graph_free(g);

    assert_int_equal(be->graph_begin(s), 1);
    be->scale(s, &OP(scale, .count = N, .x = x, .scale = 2));
    be->download(s, got, y, sizeof got); /* waits */
    assert_null(be->graph_end(s));
    assert_int_equal(error_status(), STATUS_ENV);
    error_clear();
    assert_int_equal(be->download(s, got, x, sizeof got), 0);
    assert_true(got[1] == -81);
    be->stream_free(s);
    be->free(x, sizeof host);
    be->free(y, sizeof host);
}

static void graphs(void **state)
{
    for (const struct backend_kind *kind = backend_kinds; kind->name; kind++) {
        if (!is_asked_for(kind) || !there_is(kind))
            continue;
        const struct backend *be = backend_open(kind->name, 0, 1);
        if (be->graph_begin)
            graph_of(be);
    }
}

#ifdef __SANITIZE_ADDRESS__
/* A product whose B or C reaches behind a fence is reported: the child does not end well. */
static void fenced_product(void **state)
{
    enum { N = 24 };
    const struct backend *be = backend_open("cpu", 0, 1);
    for (int behind = 0; behind < 3; behind++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            fclose(stderr); /* the report */
            float *m[3];
            for (int i = 0; i < 3; i++)
                m[i] = be->alloc((N * N + 16) * sizeof(float));
            fence(m[behind ? behind : 2] + N * N - (behind ? 1 : 0), 8);
            be->matmul(NULL, &OP(matmul, .m = N, .n = N, .k = N, .a = m[0], .lda = N, .b = m[1], .ldb = N,
                                 .c = m[2], .ldc = N, .in = F32, .out = F32));
            _exit(0);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status != 0, behind != 0);
    }
}
#endif

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory),         cmocka_unit_test(table_of_backends),
        cmocka_unit_test(unknown_name),   cmocka_unit_test(streams_of_all),
        cmocka_unit_test(same_bits),      cmocka_unit_test(streams_in_turn),
        cmocka_unit_test(graphs),
#ifdef __SANITIZE_ADDRESS__
        cmocka_unit_test(fenced_product),
#endif
    };
    return RUN_CASES(argc, argv, tests);
}

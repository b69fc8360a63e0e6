/* SPDX-License-Identifier: MIT */
/* Where activations lie: first fit, as a plain list of live blocks has it, for programs of every sort and
 * chunks of different sizes; and in time of the program. */
#include "lib/plans.h"

#include "base/num.h"
#include "cost/arena.h"
#include "cost/memory.h"
#include "plan/schedule.h"

struct live {
    int64_t begin, end;
    int number;
};

/* The lowest gap of `bytes`, taken. */
static int64_t take(struct live *live, int *count, int64_t bytes, int number)
{
    int64_t place = 0;
    int at = 0;
    for (; at < *count && live[at].begin - place < bytes; at++)
        place = live[at].end;
    memmove(live + at + 1, live + at, (size_t)(*count - at) * sizeof *live);
    live[at] = (struct live){place, place + bytes, number};
    ++*count;
    return place;
}

static void drop(struct live *live, int *count, int number)
{
    int at = 0;
    while (at < *count && live[at].number != number)
        at++;
    assert_true(at < *count);
    memmove(live + at, live + at + 1, (size_t)(*count - at - 1) * sizeof *live);
    --*count;
}

/* Every F is where the list has it; each stage and place is one stash. */
static void check_rank(const struct plan *p, int rank)
{
    struct shards s;
    struct arena a;
    int pp = p->ranks[rank].pp, m = (int)p->batch.microbatches, count = 0;
    const struct program *g = &p->programs[pp];
    char last = program_splits_backward(g) ? 'W' : 'B';
    struct live *live = xcalloc((size_t)g->count + 1, sizeof *live);
    shards_init(&s, p, rank);
    assert_int_equal(arena_layout(&a, p, rank, &s, NULL), 0);
    int64_t region = 0;
    for (int i = 0; i < g->count; i++) {
        const struct op *o = &g->ops[i];
        int number = o->chunk * m + o->microbatch;
        const struct stash *stash = &a.stashes[a.stash_of_op[number]];
        if (o->kind == last)
            drop(live, &count, number);
        if (o->kind != 'F')
            continue;
        assert_int_equal(stash->stage, plan_stage_of(p, pp, o->chunk));
        assert_int_equal(take(live, &count, stash->end - stash->begin, number), stash->begin);
        region = max64(region, stash->end);
    }
    assert_int_equal(a.bytes.activations, region);
    for (int i = 0; i < a.stash_count; i++)
        for (int k = 0; k < i; k++)
            assert_false(a.stashes[i].stage == a.stashes[k].stage && a.stashes[i].begin == a.stashes[k].begin);
    free(live);
    arena_release(&a);
    shards_release(&s);
}

/* All F and B of a rank in a random order, each B behind its F. */
static void shuffle_program(struct program *g, uint64_t *seed)
{
    for (int i = g->count - 1; i > 0; i--) {
        int other = (int)(next_random(seed) % (uint64_t)(i + 1));
        struct op o = g->ops[i];
        g->ops[i] = g->ops[other];
        g->ops[other] = o;
    }
    for (int i = 0; i < g->count; i++)
        for (int k = 0; k < i && g->ops[i].kind == 'F'; k++)
            if (g->ops[k].kind == 'B' && g->ops[k].chunk == g->ops[i].chunk &&
                g->ops[k].microbatch == g->ops[i].microbatch) {
                g->ops[k].kind = 'F';
                g->ops[i].kind = 'B';
            }
}

static void schedules_of_all_sorts(void **state)
{
    static const struct request requests[] = {
        {.schedule = "gpipe", .axes = {.pp = 2}},
        {.schedule = "1f1b", .axes = {.pp = 4}},
        {.schedule = "zb-h1", .axes = {.pp = 4}},
        {.schedule = "interleaved", .axes = {.pp = 2, .vpp = 2}, .split = "0,1,2,1"},
        {.schedule = "interleaved", .axes = {.pp = 2, .vpp = 3}, .split = "1,0,0,2,1,0"},
    };
    uint64_t seed = 77;
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct request r = requests[i];
        r.model = "moe-tiny";
        r.zero = 1;
        r.batch = (struct batch){.seq = 16, .micro = 1, .global = 24};
        struct plan p = made(r);
        for (int rank = 0; rank < p.world; rank++)
            check_rank(&p, rank);
        for (int k = 0; k < 40 && !program_splits_backward(&p.programs[0]); k++) {
            shuffle_program(&p.programs[0], &seed);
            check_rank(&p, 0);
        }
        plan_release(&p);
    }
}

/* A million microbatches are all held at once: what is quadratic in them takes hours. */
static void many_microbatches(void **state)
{
    struct plan p = made((struct request){.model = "moe-tiny",
                                          .zero = 1,
                                          .schedule = "gpipe",
                                          .batch = {.seq = 16, .micro = 1, .global = 1000000}});
    struct memory m;
    assert_int_equal(memory_of_rank(&p, 0, &m), 0);
    assert_int_equal(m.activations % 1000000, 0);
    assert_true(m.activations > 0);
    plan_release(&p);
}

/* As many stages as there may be, nearly all empty: likewise, with each rank looking at all stages. */
static void many_stages(void **state)
{
    char path[] = "/tmp/moekit-arena-XXXXXX";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    assert_non_null(f);
    fputs("{\"name\": \"big\", \"device\": \"cpu\", \"nodes\": 8192, \"ranks_per_node\": 8}\n", f);
    assert_int_equal(fclose(f), 0);
    struct plan p = made((struct request){.model = "moe-tiny",
                                          .cluster = path,
                                          .world = 1 << 16,
                                          .axes = {.pp = 1 << 16},
                                          .zero = 1,
                                          .batch = {.seq = 16, .micro = 1, .global = 4}});
    assert_int_equal(p.stage_count, 1 << 16);
    assert_true(p.predict.memory_bytes > 0);
    plan_release(&p);
    unlink(path);
}

/* A rank's layout, counted only; its tables are freed. */
static struct arena counted(struct request r)
{
    struct plan p = made(r);
    struct shards s;
    struct arena a;
    shards_init(&s, &p, 0);
    assert_int_equal(arena_layout(&a, &p, 0, &s, NULL), 0);
    struct arena sizes = a;
    arena_release(&a);
    shards_release(&s);
    plan_release(&p);
    return sizes;
}

/* Rows by the skew, or by what a capacity lets through; with one holder all that there are. moe-tiny: top 2. */
static void rows_reserved(void **state)
{
    struct request r = {.model = "moe-tiny", .zero = -1, .axes = {.ep = 4}, .batch = {.seq = 64, .global = 4}};
    int64_t mean = 64 * 2;
    for (double lambda = 1; lambda <= 2; lambda += 0.5) {
        r.routing = (struct routing){.lambda = lambda};
        assert_int_equal(counted(r).row_capacity, (int64_t)((double)mean * lambda));
        for (double factor = 1; factor <= 2; factor += 0.5) {
            r.routing = (struct routing){.lambda = lambda, .capacity = factor};
            assert_int_equal(counted(r).row_capacity, (int64_t)((double)mean * factor));
        }
    }
    r.axes = (struct axes){.ep = 1, .dp = 2};
    r.routing = (struct routing){.lambda = 3};
    assert_int_equal(counted(r).row_capacity, mean);
}

/* comm.h says how much is worth having, whatever tp is. */
static void scratch(void **state)
{
    struct request r = {.model = "moe-tiny", .zero = -1, .axes = {.dp = 2}, .batch = {.seq = 64, .global = 4}};
    assert_int_equal(counted(r).ws.comm_bytes, 4 << 20);
    r.axes = (struct axes){.tp = 2};
    assert_int_equal(counted(r).ws.comm_bytes, 4 << 20);
    r.batch = (struct batch){.seq = 1024, .micro = 256, .global = 256};
    assert_int_equal(counted(r).ws.comm_bytes, 16 << 20);
    r.axes = (struct axes){.tp = 1};
    assert_int_equal(counted(r).ws.comm_bytes, 0);
}

/* What no schedule makes, and a file may say. */
static void repeated_forward(void **state)
{
    struct plan p = made((struct request){.model = "moe-tiny", .zero = 1, .batch = {.seq = 16, .global = 4}});
    struct memory m;
    p.programs[0].ops[2] = p.programs[0].ops[0];
    assert_int_equal(memory_of_rank(&p, 0, &m), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "op 2 repeats a forward"));
    plan_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(schedules_of_all_sorts),
                                       cmocka_unit_test(many_microbatches),
                                       cmocka_unit_test(many_stages),
                                       cmocka_unit_test(rows_reserved),
                                       cmocka_unit_test(scratch),
                                       cmocka_unit_test(repeated_forward)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

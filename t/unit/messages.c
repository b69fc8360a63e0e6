/* SPDX-License-Identifier: MIT */
/* The stages' messages under rendezvous, played here by a simulation of its own: all schedules, and random
 * programs. Then programs whose messages do not match, and queues that deadlock. */
#include "cost/messages.h"

#include "base/memory.h"
#include "base/num.h"
#include "base/words.h"
#include "cost/simulate.h"
#include "lib/unit.h"
#include "plan/schedule.h"

static uint64_t seed = 20240229;

static int below(int n)
{
    return (int)(next_random(&seed) % (uint64_t)n);
}

static double max_of(double a, double b)
{
    return a > b ? a : b;
}

static struct plan bare(const char *schedule, int64_t p, int64_t m, int64_t v)
{
    struct plan plan = {.axes = {.pp = p, .vpp = v}, .batch = {.microbatches = m}, .stage_count = (int)(p * v)};
    plan.training.schedule = word_index(&schedule_words, schedule);
    return plan;
}

/* ---- the simulation: what crosses is a number that tells what it is ---- */

enum streams { ONE, TWO }; /* messages and operations in one stream; in two */

struct arrival {
    int what; /* −1: not there */
    double s;
};

struct rank {
    const struct program *g;
    const struct stage_queue *q;
    char releases;            /* the kind of operation that gives up memory */
    int op, message;          /* how many are done */
    struct arrival *needs[2]; /* [chunk·m + microbatch] of F, of B: what another stage sent it */
    double *end_s;            /* [op] negative: not run */
    double free_s, queue_s;   /* when the last operation, the last message ended */
    int held;                 /* from the receipt, or F, to the end of B, or W */
};

struct world {
    const struct plan *p;
    enum streams streams;
    int pp, m;
    struct rank r[16];
};

static int cell(const struct world *w, const struct op *o)
{
    return o->chunk * w->m + o->microbatch;
}

/* What op o of rank i makes: told by its kind, virtual stage and microbatch. */
static int product(const struct world *w, int i, const struct op *o)
{
    return ((o->chunk * w->pp + i) * w->m + o->microbatch) * 2 + (o->kind == 'B');
}

/* What op o of rank i needs of another virtual stage, −1: nothing. */
static int need(const struct world *w, int i, const struct op *o)
{
    int stage = o->chunk * w->pp + i, from = o->kind == 'F' ? stage - 1 : stage + 1;
    if (o->kind == 'W' || from < 0 || from == w->p->stage_count)
        return -1;
    return (from * w->m + o->microbatch) * 2 + (o->kind == 'B');
}

static char releases(const struct program *g)
{
    return program_splits_backward(g) ? 'W' : 'B';
}

/* The op of this rank that the message is for, as an index. */
static int op_of(const struct rank *r, const struct stage_message *m)
{
    int k = 0;
    while (r->g->ops[k].kind != m->op.kind || r->g->ops[k].chunk != m->op.chunk ||
           r->g->ops[k].microbatch != m->op.microbatch)
        k++;
    return k;
}

/* When the rank comes to its next message, negative: not yet. In two streams: after the events it waits for. */
static double comes_to_message(const struct world *w, int i)
{
    const struct rank *r = &w->r[i];
    if (r->message == r->q->count)
        return -1;
    const struct stage_message *m = &r->q->list[r->message];
    if (w->streams == ONE)
        return m->before <= r->op ? 0 : -1;
    int k = op_of(r, m);
    double s = 0;
    if (m->send)
        s = r->end_s[k];
    else if (m->op.kind == 'F') /* a gradient's place is the output's, which went before in this queue */
        for (int j = k - 1; j >= 0 && s == 0; j--)
            if (r->g->ops[j].kind == r->releases)
                s = r->end_s[j];
    return s < 0 ? -1 : max_of(s, r->queue_s);
}

static bool run_op(struct world *w, int i)
{
    struct rank *r = &w->r[i];
    if (r->op == r->g->count ||
        (w->streams == ONE && r->message < r->q->count && r->q->list[r->message].before <= r->op))
        return false;
    const struct op *o = &r->g->ops[r->op];
    int want = need(w, i, o);
    if (w->pp > 1 && want >= 0) {
        const struct arrival *a = &r->needs[o->kind == 'B'][cell(w, o)];
        if (w->streams == TWO && a->what < 0)
            return false;
        assert_int_equal(a->what, want);
        r->free_s = max_of(r->free_s, a->s);
    }
    r->held += o->kind == 'F' && (want < 0 || w->pp == 1);
    r->held -= o->kind == r->releases;
    r->free_s += o->kind == 'B' && r->releases == 'B' ? 2 : 1;
    r->end_s[r->op++] = r->free_s;
    return true;
}

/* Rank i and the one that its next message is for or from. */
static bool pass_message(struct world *w, int i)
{
    if (comes_to_message(w, i) < 0)
        return false;
    const struct stage_message *a = &w->r[i].q->list[w->r[i].message];
    int peer = a->peer;
    if (comes_to_message(w, peer) < 0)
        return false;
    const struct stage_message *b = &w->r[peer].q->list[w->r[peer].message];
    if (b->peer != i || b->send == a->send)
        return false;
    int from = a->send ? i : peer, to = a->send ? peer : i;
    const struct op *sent = a->send ? &a->op : &b->op, *taken = a->send ? &b->op : &a->op;
    struct rank *f = &w->r[from], *t = &w->r[to];
    assert_true(f->end_s[op_of(f, a->send ? a : b)] >= 0);
    f->queue_s = t->queue_s = max_of(comes_to_message(w, i), comes_to_message(w, peer));
    t->needs[taken->kind == 'B'][cell(w, taken)] = (struct arrival){product(w, from, sent), t->queue_s};
    t->held += taken->kind == 'F';
    f->message++;
    t->message++;
    return true;
}

static void rank_init(struct rank *r, const struct program *g, const struct stage_queue *q, int cells)
{
    *r = (struct rank){
        .g = g, .q = q, .releases = releases(g), .end_s = xcalloc((size_t)g->count, sizeof *r->end_s)};
    for (int d = 0; d < 2; d++) {
        r->needs[d] = xcalloc((size_t)cells, sizeof *r->needs[d]);
        for (int k = 0; k < cells; k++)
            r->needs[d][k].what = -1;
    }
    for (int k = 0; k < g->count; k++)
        r->end_s[k] = -1;
}

/* Ranks go on one at a time, any of those that can, to the end. With two streams no more time passes than where
 * sends do not wait. */
static void play(const struct plan *p, const struct stage_queue *q, enum streams streams,
                 const struct simulation *s)
{
    struct world w = {.p = p, .streams = streams, .pp = (int)p->axes.pp, .m = (int)p->batch.microbatches};
    double span_s = 0;
    for (int i = 0; i < w.pp; i++)
        rank_init(&w.r[i], &p->programs[i], &q[i], (int)p->axes.vpp * w.m);
    for (int stuck = 0; stuck < w.pp;) {
        int first = below(w.pp);
        for (stuck = 0; stuck < w.pp; stuck++) {
            int i = (first + stuck) % w.pp;
            bool message_first = below(2);
            if (message_first ? pass_message(&w, i) || run_op(&w, i) : run_op(&w, i) || pass_message(&w, i)) {
                assert_true(w.r[i].held <= s->in_flight[i]);
                break;
            }
        }
    }
    for (int i = 0; i < w.pp; i++) {
        struct rank *r = &w.r[i];
        if (r->op != r->g->count || r->message != q[i].count)
            fail_msg("rank %d of %d: stuck at op %d, message %d", i, w.pp, r->op, r->message);
        span_s = max_of(span_s, r->free_s);
        free(r->needs[0]);
        free(r->needs[1]);
        free(r->end_s);
    }
    if (streams == TWO && !(span_s <= s->span_s))
        fail_msg("pp %d vpp %d m %d: takes %g, not %g", w.pp, (int)p->axes.vpp, w.m, span_s, s->span_s);
}

/* No side of a message is queued behind an operation that ends after the one that takes it could start,
 * were sends not to wait. */
static void assert_in_time(const struct plan *p, const struct stage_queue *q, const struct simulation *s)
{
    for (int i = 0; i < p->axes.pp; i++)
        for (int k = 0; k < q[i].count; k++) {
            const struct stage_message *m = &q[i].list[k];
            const struct rank r = {.g = &p->programs[i]};
            int taker = m->send ? m->peer : i, at = m->before - 1;
            struct op take = m->op;
            if (m->send)
                take.chunk += (m->op.kind == 'F' && m->peer == 0) - (m->op.kind == 'B' && i == 0);
            int op = op_of(&(struct rank){.g = &p->programs[taker]}, &(struct stage_message){.op = take});
            if (at < 0)
                continue;
            double end_s = s->start_s[i][at] + (r.g->ops[at].kind == 'B' && releases(r.g) == 'B' ? 2 : 1);
            assert_true(end_s <= s->start_s[taker][op]);
        }
}

/* The plan's queues, proved by the library and played here. Returns how many sends are not queued right behind
 * their operation. */
static int64_t prove(const struct plan *p)
{
    struct stage_queue q[16];
    struct simulation s;
    if (plan_simulate(p, 1, 1, 1, &s) < 0 || messages_make(p, q) < 0 || messages_prove(p, q) < 0)
        fail_msg("pp %d vpp %d m %d: %s", (int)p->axes.pp, (int)p->axes.vpp, (int)p->batch.microbatches,
                 error_text());
    int64_t sides = 0, late = 0;
    for (int i = 0; i < p->axes.pp; i++) {
        struct rank r = {.g = &p->programs[i]};
        sides += q[i].count;
        for (int k = 0; k < q[i].count; k++)
            late += q[i].list[k].send && q[i].list[k].before != op_of(&r, &q[i].list[k]) + 1;
    }
    assert_int_equal(sides, p->axes.pp == 1 ? 0 : 4 * (p->stage_count - 1) * p->batch.microbatches);
    assert_in_time(p, q, &s);
    play(p, q, ONE, &s);
    play(p, q, TWO, &s);
    messages_release(q, p->axes.pp);
    simulation_release(&s);
    return late;
}

static void test_schedules(void **state)
{
    int plans = 0;
    for (const struct schedule *s = schedules; s->name; s++)
        for (int64_t p = 1; p <= 16; p++)
            for (int64_t m = 1; m <= 40; m++)
                for (int64_t v = 1; v <= 4; v++) {
                    if (s->chunks != (v > 1) || (s->chunks && (p == 1 || m % p)))
                        continue;
                    struct plan plan = bare(s->name, p, m, v);
                    schedule_make(&plan);
                    int64_t late = prove(&plan);
                    assert_true(late == 0 || s->chunks); /* there memory is given up just in time */
                    plan_release(&plan);
                    plans++;
                }
    assert_int_equal(plans, 3 * 16 * 40 + 3 * 90);
}

/* ---- programs that no generator writes ---- */

/* F and B of every rank in interleaved's order each, mixed at random: an op is written when what it needs has
 * been; W at any time from then on. */
static void random_programs(struct plan *p, bool split)
{
    int pp = (int)p->axes.pp, cells = (int)(p->axes.vpp * p->batch.microbatches),
        m = (int)p->batch.microbatches;
    bool *made = xcalloc(2 * (size_t)(p->stage_count * m), sizeof *made);
    struct op *order = xcalloc((size_t)cells, sizeof *order);
    int *done = xcalloc(3 * (size_t)pp, sizeof *done);
    struct world w = {.p = p, .pp = pp, .m = m};
    p->programs = xcalloc((size_t)pp, sizeof *p->programs);
    for (int i = 0; i < pp; i++)
        p->programs[i].ops = xcalloc(3 * (size_t)cells, sizeof(struct op));
    for (int k = 0; k < cells; k++)
        order[k] = (struct op){'F', k / pp % (int)p->axes.vpp, k / (pp * (int)p->axes.vpp) * pp + k % pp};
    for (int left = pp * cells * (split ? 3 : 2); left > 0;) {
        int i = below(pp), kind = below(split ? 3 : 2), *d = &done[3 * i];
        if (d[kind] == cells || (kind == 2 && d[2] == d[1]))
            continue;
        struct op o = order[d[kind]];
        o.kind = "FBW"[kind];
        if (kind > 0)
            o.chunk = (int)p->axes.vpp - 1 - o.chunk;
        int want = need(&w, i, &o);
        if ((want >= 0 && !made[want]) ||
            (kind == 1 && !made[product(&w, i, &(struct op){'F', o.chunk, o.microbatch})]))
            continue;
        if (kind < 2)
            made[product(&w, i, &o)] = true;
        p->programs[i].ops[p->programs[i].count++] = o;
        d[kind]++;
        left--;
    }
    free(made);
    free(order);
    free(done);
}

static void test_random_programs(void **state)
{
    for (int n = 0; n < 400; n++) {
        int pp = 1 + below(6), v = 1 + below(3), m = pp * (1 + below(4));
        struct plan p = bare("1f1b", pp, m, v);
        random_programs(&p, below(2));
        prove(&p);
        plan_release(&p);
    }
}

/* Programs, a stage each, that end when sends do not wait, and what is wrong with their messages. */
static const struct {
    int v, m;
    const char *stages[4], *words;
} unmatched[] = {
    {1,
     2,
     {"F0 F1 B0 B1", "F1 B1 F0 B0"},
     "message 0 forward from stage 0 to stage 1: stage 0 sends what F0 made, stage 1 receives for F1"},
    {1,
     2,
     {"F0 F1 B1 B0", "F0 F1 B0 B1"},
     "message 0 backward from stage 1 to stage 0: stage 1 sends what B0 made, stage 0 receives for B1"},
    {1,
     3,
     {"F0 F1 F2 B0 B1 B2", "F0 F2 F1 B0 B1 B2", "F0 F2 F1 B0 B1 B2"},
     "message 1 forward from stage 0 to stage 1: stage 0 sends what F1 made, stage 1 receives for F2"},
    {2,
     2,
     {"F0.0 F1.0 F1.1 F0.1 B0.1 B1.1 B0.0 B1.0", "F0.0 F1.0 F0.1 F1.1 B0.1 B1.1 B0.0 B1.0"},
     "message 2 forward from stage 0 to stage 1: stage 0 sends what F1.1 made, stage 1 receives for F0.1"},
};

static struct plan written(int v, int m, const char *const *stages)
{
    int pp = 0;
    while (pp < 4 && stages[pp])
        pp++;
    struct plan p = bare("1f1b", pp, m, v);
    p.programs = xcalloc((size_t)pp, sizeof *p.programs);
    for (int i = 0; i < pp; i++) {
        struct program *g = &p.programs[i];
        char *text = xstrdup(stages[i]), *rest = text;
        g->ops = xcalloc(strlen(text), sizeof *g->ops);
        for (char *word; (word = strsep(&rest, " "));)
            assert_true(op_parse(word, &g->ops[g->count++]));
        free(text);
    }
    return p;
}

static void test_unmatched(void **state)
{
    for (size_t n = 0; n < sizeof unmatched / sizeof *unmatched; n++) {
        struct plan p = written(unmatched[n].v, unmatched[n].m, unmatched[n].stages);
        struct stage_queue q[4];
        struct simulation s;
        assert_int_equal(plan_simulate(&p, 1, 1, 1, &s), 0);
        simulation_release(&s);
        assert_int_equal(messages_make(&p, q), -1);
        assert_int_equal(error_status(), STATUS_NO);
        assert_string_equal(error_text(), unmatched[n].words);
        plan_release(&p);
    }
}

/* ---- queues that were not made here ---- */

/* "<F1" receives for F1 before it, ">B0" sends what B0 made; ops between. The plan's programs are the ops. */
static void queue_written(struct stage_queue *q, int peer_up, int peer_down, const char *items)
{
    char *text = xstrdup(items), *rest = text;
    int ops = 0;
    *q = (struct stage_queue){.list = xcalloc(strlen(text), sizeof *q->list)};
    for (char *word; (word = strsep(&rest, " "));) {
        if (*word != '<' && *word != '>') {
            ops++;
            continue;
        }
        struct stage_message *m = &q->list[q->count++];
        assert_true(op_parse(word + 1, &m->op));
        m->send = *word == '>';
        m->peer = (m->op.kind == 'F') == m->send ? peer_down : peer_up;
        m->before = ops;
    }
    free(text);
}

/* The programs of 1F1B, or with all forwards first, and queues as one might write them. */
static const struct {
    const char *stages[4], *queues[4], *words; /* NULL: they end */
} queued[] = {
    {{"F0 B0", "F0 B0"}, {"F0 >F0 <B0 B0", "<F0 F0 B0 >B0"}, NULL},
    /* all forwards at once: stage 1 sends back before it takes the next */
    {{"F0 F1 B0 B1", "F0 B0 F1 B1"},
     {"F0 >F0 F1 >F1 <B0 B0 <B1 B1", "<F0 F0 B0 >B0 <F1 F1 B1 >B1"},
     "deadlock: stage 0 waits to send what F1 made to stage 1, stage 1 waits to send what B0 made to stage 0"},
    {{"F0 F1 B0 B1", "F0 F1 B0 B1", "F0 F1 B0 B1"},
     {"F0 >F0 F1 >F1 <B1 <B0 B0 B1", "<F0 F0 >F0 <F1 F1 >F1 <B0 B0 >B0 <B1 B1 >B1",
      "<F0 F0 <F1 F1 B0 >B0 B1 >B1"},
     "stage 1 sends what B0 made when stage 0 receives for B1"},
    {{"F0 B0", "F0 B0", "F0 B0"},
     {"F0 <B0 >F0 B0", "<F0 F0 >F0 <B0 B0 >B0", "<F0 F0 B0 >B0"},
     "deadlock: stage 0 waits to receive for B0 from stage 1, stage 1 waits to receive for F0 from stage 0"},
    {{"F0 B0", "F0 B0"},
     {"F0 >F0 B0 <B0", "<F0 F0 B0 >B0"},
     "stage 0 runs B0 before it has received what that needs"},
    {{"F0 B0", "F0 B0"}, {">F0 F0 <B0 B0", "<F0 F0 B0 >B0"}, "stage 0 sends what F0 makes before it has run"},
    {{"F0 B0", "F0 B0"},
     {"F0 >F0 <B0 B0", "<F0 F0 B0"},
     "deadlock: stage 1 has ended, and messages with it are left"},
};

static void test_queues(void **state)
{
    for (size_t n = 0; n < sizeof queued / sizeof *queued; n++) {
        int m = strstr(queued[n].stages[0], "F1") ? 2 : 1;
        struct plan p = written(1, m, queued[n].stages);
        struct stage_queue q[4];
        int pp = (int)p.axes.pp;
        for (int i = 0; i < pp; i++)
            queue_written(&q[i], (i + pp - 1) % pp, (i + 1) % pp, queued[n].queues[i]);
        int r = messages_prove(&p, q);
        assert_int_equal(r, queued[n].words ? -1 : 0);
        if (r < 0)
            assert_string_equal(error_text(), queued[n].words);
        messages_release(q, pp);
        plan_release(&p);
    }
}

/* The example of messages.h. */
static void test_example(void **state)
{
    struct plan p = bare("1f1b", 2, 3, 1);
    struct stage_queue made[2], want[2];
    schedule_make(&p);
    assert_int_equal(messages_make(&p, made), 0);
    queue_written(&want[0], 1, 1, "F0 >F0 F1 <B0 >F1 B0 F2 <B1 >F2 B1 <B2 B2");
    queue_written(&want[1], 0, 0, "<F0 F0 B0 >B0 <F1 F1 B1 >B1 <F2 F2 B2 >B2");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(made[i].count, want[i].count);
        for (int k = 0; k < made[i].count; k++)
            assert_memory_equal(&made[i].list[k], &want[i].list[k], sizeof *want[i].list);
    }
    messages_release(made, 2);
    messages_release(want, 2);
    plan_release(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_random_programs),
        cmocka_unit_test(test_unmatched), cmocka_unit_test(test_queues),
        cmocka_unit_test(test_example),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

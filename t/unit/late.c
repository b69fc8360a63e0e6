/* SPDX-License-Identifier: MIT */
/* The backend `late` finds what a GPU would not forgive, says where, and lets right programs be. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/kernels.h"

enum { N = 64, STREAMS = 3 };

struct bed {
    const struct backend *be;
    struct stream *s[STREAMS];
    struct event *e;
    float *x, *y; /* [N], written and known to be */
};

static struct bed make(int seed)
{
    char text[16];
    float ones[N];
    snprintf(text, sizeof text, "%d", seed);
    setenv("MOEKIT_LATE_SEED", text, 1);
    struct bed b = {.be = backend_open("late", 0, 1)};
    assert_non_null(b.be);
    for (int i = 0; i < STREAMS; i++)
        b.s[i] = b.be->stream_new();
    for (int i = 0; i < N; i++)
        ones[i] = 1;
    b.e = b.be->event_new();
    b.x = b.be->alloc(sizeof ones);
    b.y = b.be->alloc(sizeof ones);
    b.be->upload(NULL, b.x, ones, sizeof ones);
    b.be->upload(NULL, b.y, ones, sizeof ones);
    return b;
}

static int sync_all(struct bed *b)
{
    int r = 0;
    for (int i = 0; i < STREAMS; i++)
        r = b->be->sync(b->s[i]) < 0 ? -1 : r;
    return r;
}

static void drop_bed(struct bed *b)
{
    sync_all(b);
    error_clear();
    b->be->free(b->x, N * 4);
    b->be->free(b->y, N * 4);
    assert_int_equal(sync_all(b), 0); /* nothing touches them any more */
    b->be->event_free(b->e);
    for (int i = 0; i < STREAMS; i++)
        b->be->stream_free(b->s[i]);
}

static void scale(struct bed *b, int stream, float *x, int64_t count, float by)
{
    b->be->scale(b->s[stream], &OP(scale, .count = count, .x = x, .scale = by));
}

static void add(struct bed *b, int stream, const float *from, float *y)
{
    b->be->add(b->s[stream], &OP(add, .count = N, .a = from, .b = from, .y = y, .type = F32));
}

/* ---- what is not ordered ---- */

enum mistake { NONE, NO_WAIT, NO_RECORD, EARLY_RECORD, OTHER_STREAM_WAITS };

/* y = 2·(3·x): the scale in one stream, the add in another. */
static void hand_over(struct bed *b, enum mistake m)
{
    if (m == EARLY_RECORD)
        b->be->event_record(b->e, b->s[0]);
    scale(b, 0, b->x, N, 3);
    if (m != NO_RECORD && m != EARLY_RECORD)
        b->be->event_record(b->e, b->s[0]);
    if (m != NO_WAIT)
        b->be->event_wait(b->s[m == OTHER_STREAM_WAITS ? 2 : 1], b->e);
    add(b, 1, b->x, b->y);
}

static void missing_wait(void **state)
{
    for (int m = NONE; m <= OTHER_STREAM_WAITS; m++) {
        struct bed b = make(1);
        hand_over(&b, (enum mistake)m);
        assert_int_equal(sync_all(&b), m == NONE ? 0 : -1);
        if (m != NONE)
            assert_string_equal(error_text(), "'add' in stream 2 reads bytes 0 to 256 of a block of 256, which "
                                              "'scale' in stream 1 writes, and neither waits for the other");
        float host[N];
        error_clear();
        if (m == NONE) {
            assert_int_equal(b.be->download(b.s[1], host, b.y, sizeof host), 0);
            assert_true(host[0] == 6 && host[N - 1] == 6);
        }
        drop_bed(&b);
    }
}

/* Who reads must be waited for too, and part of a tensor is enough. */
static void write_after(void **state)
{
    struct bed b = make(1);
    add(&b, 0, b.x, b.y);
    scale(&b, 1, b.x + 60, 4, 2);
    assert_int_equal(sync_all(&b), -1);
    assert_string_equal(error_text(), "'scale' in stream 2 writes bytes 240 to 256 of a block of 256, which "
                                      "'add' in stream 1 reads, and neither waits for the other");
    scale(&b, 0, b.y, 8, 2);
    scale(&b, 1, b.y + 7, 8, 2);
    assert_int_equal(sync_all(&b), -1);
    assert_non_null(strstr(error_text(), "bytes 28 to 32"));
    scale(&b, 0, b.y, 8, 2); /* neighbours may be worked on at once */
    scale(&b, 1, b.y + 8, 8, 2);
    assert_int_equal(sync_all(&b), 0);
    drop_bed(&b);
}

/* Columns of one matrix in two streams. */
static void columns(void **state)
{
    for (int shift = 0; shift < 2; shift++) {
        struct bed b = make(1);
        for (int i = 0; i < 2; i++)
            b.be->clamp(b.s[i], &OP(clamp, .rows = 8, .width = 4, .x = b.x + i * (4 - shift), .ldx = 8,
                                    .limit = 1, .type = F32));
        assert_int_equal(sync_all(&b), shift ? -1 : 0);
        if (shift)
            assert_non_null(strstr(error_text(), "bytes 12 to 16"));
        drop_bed(&b);
    }
}

static void host_and_stream(void **state)
{
    struct bed b = make(1);
    float host[N];
    scale(&b, 0, b.x, N, 2);
    b.be->scale(NULL, &OP(scale, .count = N, .x = b.x, .scale = 2));
    assert_int_equal(sync_all(&b), -1);
    assert_non_null(strstr(error_text(), "'scale' of the host reads"));
    scale(&b, 0, b.x, N, 2);
    assert_int_equal(b.be->sync(b.s[0]), 0);
    b.be->scale(NULL, &OP(scale, .count = N, .x = b.x, .scale = 2));
    scale(&b, 1, b.x, N, 2); /* queued when the host has waited */
    assert_int_equal(sync_all(&b), 0);
    scale(&b, 0, b.x, N, 2);
    assert_int_equal(b.be->download(b.s[1], host, b.x, sizeof host), -1);
    error_clear();
    drop_bed(&b);
}

/* ---- memory ---- */

static void unwritten(void **state)
{
    struct bed b = make(1);
    union {
        float f32[N];
        double f64[N / 2];
        uint16_t bf16[2 * N];
        int32_t index[N];
    } host;
    float *new = b.be->alloc(sizeof host);
    b.be->zero(b.s[0], new, 16);
    assert_int_equal(b.be->download(b.s[0], &host, new, sizeof host), -1);
    assert_string_equal(error_text(), "'download' in stream 1 reads bytes 16 to 256 of a block of 256, which "
                                      "nothing has written");
    for (int i = 4; i < N; i++)
        assert_true(isnan(host.f32[i]) && isnan(host.f64[i / 2]) && host.index[i] > 1 << 30 &&
                    isnan(bf16_to_f32(host.bf16[2 * i + 1])));
    scale(&b, 0, new, 5, 2); /* reads what it writes */
    assert_int_equal(sync_all(&b), -1);
    b.be->zero(b.s[0], new + 4, 60 * 4);
    scale(&b, 0, new, N, 2);
    assert_int_equal(sync_all(&b), 0);
    scale(&b, 0, new, N + 1, 2);
    assert_int_equal(b.be->poll(), -1);
    assert_string_equal(error_text(), "'scale' in stream 1 touches 260 bytes that are not of device memory");
    error_clear();
    b.be->free(new, sizeof host);
    drop_bed(&b);
}

static void free_while_queued(void **state)
{
    struct bed b = make(1);
    float *new = b.be->alloc(64);
    b.be->zero(b.s[0], new, 64);
    b.be->free(new, 64);
    assert_int_equal(sync_all(&b), -1);
    assert_string_equal(error_text(), "64 bytes are freed that something in a stream may touch yet");
    error_clear();
    drop_bed(&b);
}

/* The signal that ends a child which calls it. */
static int ends(void (*run)(struct bed *), struct bed *b)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        run(b);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch(struct bed *b)
{
    *(volatile float *)b->x = 1;
}

/* ---- host work ---- */

/* Adds 1 to what is in its range, at the third move. */
struct adder {
    struct host_work w;
    struct host_range range;
    int moves;
    bool peeks; /* at the device address */
    bool *released;
};

static int move(struct host_work *w)
{
    struct adder *a = (struct adder *)w;
    if (a->peeks)
        touch(&(struct bed){.x = a->range.p});
    if (++a->moves < 3)
        return 0;
    for (int i = 0; i < N; i++)
        ((float *)a->range.host)[i] += 1;
    return 1;
}

static int await(struct host_work *w)
{
    return 0;
}

static void release(struct host_work *w)
{
    *((struct adder *)w)->released = true;
}

static void queue_adder(struct bed *b, struct adder *a, int stream, bool *released)
{
    *a = (struct adder){{"add", "test", &a->range, 1, move, move, await, release},
                        {b->x, N * sizeof(float), HOST_READ | HOST_WRITE},
                        .peeks = a->peeks,
                        .released = released};
    *released = false;
    b->be->host_work(b->s[stream], &a->w);
}

static void peek(struct bed *b)
{
    static struct adder a = {.peeks = true};
    bool released;
    queue_adder(b, &a, 0, &released);
    b->be->sync(b->s[0]);
}

static void closed_memory(void **state)
{
    struct bed b = make(1);
    assert_int_equal(ends(touch, &b), SIGSEGV);
    scale(&b, 0, b.x, N, 2);
    assert_int_equal(ends(touch, &b), SIGSEGV);
    assert_int_equal(sync_all(&b), 0);
    assert_int_equal(ends(touch, &b), SIGSEGV);
    assert_int_equal(ends(peek, &b), SIGSEGV);
    drop_bed(&b);
}

static void host_work(void **state)
{
    struct bed b = make(1);
    struct adder a = {0}, other = {0};
    bool released, too;
    float host[N];
    scale(&b, 0, b.x, N, 2);
    queue_adder(&b, &a, 0, &released);
    scale(&b, 0, b.x, N, 5);
    assert_int_equal(a.moves, 0);
    assert_int_equal(b.be->download(b.s[0], host, b.x, sizeof host), 0);
    assert_true(released && host[0] == 15 && host[N - 1] == 15);
    queue_adder(&b, &a, 0, &released);
    queue_adder(&b, &other, 1, &too);
    assert_int_equal(sync_all(&b), -1);
    assert_non_null(strstr(error_text(), "'host work' in stream 2"));
    assert_true(released && too);
    drop_bed(&b);
}

/* ---- when it runs ---- */

/* The caller has its arrays and structs again at once, though nothing has run. */
static void arguments(void **state)
{
    struct bed b = make(1);
    float host[N] = {[3] = 7}, back[N];
    struct scale op = {.count = N, .x = b.x, .scale = 2};
    b.be->upload(b.s[0], b.x, host, sizeof host);
    memset(host, 0xff, sizeof host);
    b.be->scale(b.s[0], &op);
    memset(&op, 0xff, sizeof op);
    assert_int_equal(b.be->download(b.s[0], back, b.x, sizeof back), 0);
    assert_true(back[3] == 14 && back[4] == 0);
    drop_bed(&b);
}

/* Of two streams that have nothing to do with each other either may be first. */
static void any_order(void **state)
{
    int first[2] = {0};
    for (int seed = 1; seed <= 40; seed++) {
        struct bed b = make(seed);
        struct adder a = {0};
        bool released;
        queue_adder(&b, &a, 0, &released);
        for (int i = 0; i < 4; i++)
            scale(&b, 1, b.y, N, 2);
        assert_int_equal(a.moves, 0);
        assert_int_equal(b.be->sync(b.s[1]), 0);
        first[released]++;
        drop_bed(&b);
    }
    assert_true(first[0] > 4 && first[1] > 4);
}

/* ---- programs drawn at random ---- */

enum { TASKS = 24, TENSORS = 4, SLICE = N / TENSORS };

struct program {
    int reads[TASKS], writes[TASKS];
    bool knows[STREAMS][TASKS]; /* what the stream's next task comes after */
    bool good;                  /* no two tasks that need an order are without */
    float value[TENSORS];       /* of each element in the end, if it is */
    int status;                 /* -1: an error was reported */
};

static int draw(struct world *w, int count)
{
    return (int)((uniform(w) + 1) / 2 * count);
}

static void learn(struct program *p, int stream, int other)
{
    for (int t = 0; t < TASKS; t++)
        p->knows[stream][t] |= p->knows[other][t];
}

static bool in_order(const struct program *p, int task, int stream)
{
    for (int t = 0; t < task; t++)
        if (!p->knows[stream][t] && (p->writes[t] == p->writes[task] || p->writes[t] == p->reads[task] ||
                                     p->reads[t] == p->writes[task]))
            return false;
    return true;
}

/* One tensor is added to another. */
static void draw_task(struct bed *b, struct world *w, struct program *p, int task, int stream)
{
    int from = p->reads[task] = draw(w, TENSORS), to = p->writes[task] = draw(w, TENSORS);
    float *y = b->x + to * SLICE;
    p->good = p->good && in_order(p, task, stream);
    p->knows[stream][task] = true;
    p->value[to] += p->value[from];
    b->be->add(b->s[stream], &OP(add, .count = SLICE, .a = y, .b = b->x + from * SLICE, .y = y, .type = F32));
}

/* Most streams wait for the task, now and then the host does. */
static void draw_waits(struct bed *b, struct world *w, struct program *p, int stream)
{
    for (int other = 0; other < STREAMS; other++)
        if (other != stream && draw(w, 25)) {
            b->be->event_record(b->e, b->s[stream]);
            b->be->event_wait(b->s[other], b->e);
            learn(p, other, stream);
        }
    if (draw(w, 10) == 0) {
        p->status = b->be->sync(b->s[stream]) < 0 ? -1 : p->status;
        for (int other = 0; other < STREAMS; other++)
            learn(p, other, stream);
    }
}

static void random_programs(void **state)
{
    enum { PROGRAMS = 1000 };
    int good = 0;
    for (int i = 0; i < PROGRAMS; i++) {
        struct bed b = make(i);
        struct world w = {.seed = (uint64_t)i};
        struct program p = {.good = true, .value = {1, 1, 1, 1}};
        for (int t = 0; t < TASKS; t++) {
            int stream = draw(&w, STREAMS);
            draw_task(&b, &w, &p, t, stream);
            draw_waits(&b, &w, &p, stream);
        }
        p.status = sync_all(&b) < 0 ? -1 : p.status;
        if (p.status != (p.good ? 0 : -1))
            fail_msg("program %d is %s: %s", i, p.good ? "right" : "wrong", error_text());
        error_clear();
        good += p.good;
        float host[N];
        assert_int_equal(b.be->download(b.s[0], host, b.x, sizeof host), 0);
        for (int x = 0; x < N && p.good; x++)
            assert_true(host[x] == p.value[x / SLICE]);
        drop_bed(&b);
    }
    assert_true(good > PROGRAMS / 5 && good < PROGRAMS - PROGRAMS / 5);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_wait),    cmocka_unit_test(write_after),
        cmocka_unit_test(columns),         cmocka_unit_test(host_and_stream),
        cmocka_unit_test(unwritten),       cmocka_unit_test(free_while_queued),
        cmocka_unit_test(closed_memory),   cmocka_unit_test(host_work),
        cmocka_unit_test(arguments),       cmocka_unit_test(any_order),
        cmocka_unit_test(random_programs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

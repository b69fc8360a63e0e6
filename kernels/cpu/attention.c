/* SPDX-License-Identifier: MIT */
/* FlashAttention on the host: a STRIP of queries against a block of KEYS at a time, two or five small
 * products (micro.h) on one thread. Scores lie transposed, [keys, STRIP], a column for each query: maxima,
 * sums and exponentials then run along whole vectors, and keys and values are read as they lie; of pairs,
 * scores become operands before they leave the registers (attention_pairs.c). In the square on the diagonal,
 * which begins at a strip's first query, keys go in groups that skip the queries that see none of them. A task
 * owns what it writes, and a strip meets its keys in the same blocks whatever the tasks are: so the order of
 * every sum is fixed. What a task reads first is asked of memory while the one before it computes. */
#include <omp.h>
#include <stdlib.h>

#include "attention.h"
#include "base/num.h"
#include "cpu.h"
#include "matmul.h"
#include "piece.h"

enum { QUERIES = 8 * STRIP, KEYS = 2 * STRIP };

static const float LOG2E = 1.44269504f, LN2 = 0.69314718f;

static struct head_form form_of(const struct attention *p)
{
    return (struct head_form){.type = p->type,
                              .pairs = p->type == BF16 && matmul_has_pairs(),
                              .dim = p->dim,
                              .wide = round_up(p->dim, MICRO_COLUMNS)};
}

/* The rows of a head from position `from` of a sequence on, at most `most`. */
static struct head_rows rows_of(const struct attention *p, const void *x, int64_t ld, int64_t sequence,
                                int64_t head, int64_t from, int64_t most)
{
    return (struct head_rows){.p = x,
                              .first = (sequence * p->seq + from) * ld + head * p->dim,
                              .ld = ld,
                              .rows = min64(most, p->seq - from)};
}

static struct sight sight_of(int64_t from, int64_t queries, int64_t key)
{
    return (struct sight){min64(KEYS, from + queries - key), from - key};
}

/* How a thread computes: the form of its operands, and what it asks of memory meanwhile. */
struct hands {
    struct head_form form;
    struct errands soon, later; /* in this task, and behind it */
};

/* s [keys, STRIP] = the scores; `hidden` where a query does not see the key. */
static void scores(float *s, struct sight of, const struct score_product *x, float hidden)
{
    struct micro all = {.m = min64(of.keys, of.square),
                        .n = STRIP,
                        .k = x->k,
                        .a = x->rows,
                        .row = x->row,
                        .step = 1,
                        .b = x->columns,
                        .ldb = STRIP,
                        .c = s,
                        .ldc = STRIP,
                        .errands = x->errands};
    micro_product(&all);
    for (int64_t i = of.square; i < of.keys; i += GROUP) {
        struct micro group = all;
        int64_t skip = i - of.square;
        group.m = min64(GROUP, of.keys - i);
        group.n = STRIP - skip;
        group.a += i * x->row;
        group.b += skip;
        group.c += i * STRIP + skip;
        micro_product(&group);
    }
    score_hide(s, of, hidden);
}

static struct score_product score_product(struct hands *w, const float *rows, const float *columns)
{
    return (struct score_product){.rows = rows,
                                  .row = words(&w->form, w->form.wide),
                                  .k = words(&w->form, w->form.dim),
                                  .columns = columns,
                                  .errands = &w->soon};
}

/* y [STRIP, wide] = sᵀ · x, s [words(keys), STRIP], x of rows_stacked(); added to y if `add`. */
static void over_keys(struct hands *w, float *y, struct sight of, const float *s, const float *x, bool add)
{
    int64_t wide = w->form.wide;
    micro_product(&(struct micro){.m = STRIP,
                                  .n = wide,
                                  .k = words(&w->form, of.keys),
                                  .first = words(&w->form, of.square + MICRO_ROWS),
                                  .climb = words(&w->form, MICRO_ROWS),
                                  .a = s,
                                  .row = 1,
                                  .step = STRIP,
                                  .b = x,
                                  .ldb = wide,
                                  .c = y,
                                  .ldc = wide,
                                  .add = add,
                                  .pairs = w->form.pairs,
                                  .errands = &w->soon});
}

/* y [keys, wide] += s · x, s [keys, words(STRIP)], x of rows_stacked(). The `first` is not added but put where
 * the square on the diagonal is. */
static void over_queries(struct hands *w, float *y, struct sight of, const float *s, const float *x, bool first)
{
    int64_t wide = w->form.wide;
    struct micro all = {.m = min64(of.keys, of.square),
                        .n = wide,
                        .k = words(&w->form, STRIP),
                        .a = s,
                        .row = words(&w->form, STRIP),
                        .step = 1,
                        .b = x,
                        .ldb = wide,
                        .c = y,
                        .ldc = wide,
                        .add = true,
                        .pairs = w->form.pairs,
                        .errands = &w->soon};
    struct micro square = all;
    square.m = of.keys - of.square;
    square.skip = words(&w->form, MICRO_ROWS);
    square.add = !first;
    square.a += of.square * words(&w->form, STRIP);
    square.c += of.square * wide;
    micro_product(&all);
    micro_product(&square);
}

/* A strip of queries on its way through the keys, and its sum of unscaled outputs. */
struct running {
    struct softmax of;
    float *q, *o; /* [words(dim), STRIP], [STRIP, wide] */
};

enum { FAR = 32 };

/* Whether a score exceeds what scores are relative to by 2^FAR. */
HOT static bool far_away(const struct softmax *of, const float *max, float scale)
{
    int any = 0;
    for (int c = 0; c < STRIP; c++)
        any |= scale * max[c] > of->shift[c] + FAR;
    return any;
}

/* Scores are relative to one of the first block, the largest, or of pairs the first; later to a larger one
 * where they exceed it by 2^FAR, which is far from what overflows, and happens seldom. What was summed before
 * fades then by what lies between the two. */
static void fade(struct running *run, const float *max, float scale, int64_t wide)
{
    for (int64_t c = 0; c < STRIP; c++) {
        float shift = scale * max[c], by;
        if (!(shift > run->of.shift[c] + FAR))
            continue;
        by = exp2_fast(run->of.shift[c] - shift);
        run->of.shift[c] = shift;
        run->of.sum[c] *= by;
        run->of.weight[c] *= by;
        scale_to(run->o + c * wide, run->o + c * wide, by, wide, F32, F32);
    }
}

/* What a task of the forward pass holds: some queries of a head, in strips, and a block of its keys. */
struct forward {
    const struct attention *p;
    struct hands w;
    struct running run[QUERIES / STRIP];
    float *s;     /* [KEYS, STRIP] */
    float *k, *v; /* [KEYS, words(wide)], [words(KEYS), wide] */
};

static void begin_shift(struct running *run, const float *max, float scale)
{
    for (int c = 0; c < STRIP; c++)
        run->of.shift[c] = max[c] == -INFINITY ? 0 : scale * max[c];
}

static void see_f32(struct forward *f, struct running *run, struct sight of, bool first)
{
    struct score_product x = score_product(&f->w, f->k, run->q);
    float max[STRIP], scale = f->p->scale * LOG2E;
    for (int c = 0; c < STRIP; c++)
        max[c] = -INFINITY;
    scores(f->s, of, &x, -INFINITY);
    score_maxima(max, f->s, of);
    if (first)
        begin_shift(run, max, scale);
    else if (far_away(&run->of, max, scale))
        fade(run, max, scale, f->w.form.wide);
    score_powers(f->s, of, scale, run->of.shift, run->of.sum);
    memcpy(run->of.weight, run->of.sum, sizeof run->of.weight);
}

/* The first score of each query: what all are relative to, until one exceeds it by far. */
static void begin_pairs(struct forward *f, struct running *run, const struct score_product *x, float scale)
{
    micro_product(&(struct micro){.m = 1,
                                  .n = STRIP,
                                  .k = x->k,
                                  .a = x->rows,
                                  .step = 1,
                                  .b = x->columns,
                                  .ldb = STRIP,
                                  .c = f->s,
                                  .ldc = STRIP,
                                  .pairs = true});
    begin_shift(run, f->s, scale);
}

/* Powers of scores that nobody has seen: should one exceed the shift by too much, once more. */
static void see_pairs(struct forward *f, struct running *run, struct sight of, bool first)
{
    struct score_product x = score_product(&f->w, f->k, run->q);
    struct softmax *now = &run->of;
    float scale = f->p->scale * LOG2E, sum[STRIP], weight[STRIP];
    if (first)
        begin_pairs(f, run, &x, scale);
    for (;;) {
        memcpy(sum, now->sum, sizeof sum);
        memcpy(weight, now->weight, sizeof weight);
        for (int c = 0; c < STRIP; c++)
            now->max[c] = -INFINITY;
        pairs_powers(f->s, of, &x, scale, now);
        if (!far_away(now, now->max, scale))
            return;
        memcpy(now->sum, sum, sizeof sum);
        memcpy(now->weight, weight, sizeof weight);
        fade(run, now->max, scale, first ? 0 : f->w.form.wide);
    }
}

static void see(struct forward *f, struct running *run, struct sight of, bool first)
{
    (f->w.form.pairs ? see_pairs : see_f32)(f, run, of, first);
    over_keys(&f->w, run->o, of, f->s, f->v, !first);
}

static void begin_strip(struct forward *f, struct running *run, const struct head_rows *q)
{
    if (!f->w.form.pairs)
        rows_lying(f->k, &f->w.form, q, STRIP);
    rows_columns(run->q, &f->w.form, q, f->k);
    memset(&run->of, 0, sizeof run->of);
}

HOT static void end_sums(const struct softmax *of, float *by, float *lse, int64_t rows)
{
    for (int64_t c = 0; c < rows; c++) {
        by[c] = 1 / of->weight[c];
        lse[c] = of->shift[c] * LN2 + log_fast(of->sum[c]);
    }
}

static void end_strip(const struct forward *f, const struct running *run, const struct head_rows *o, float *lse)
{
    float by[STRIP];
    end_sums(&run->of, by, lse, o->rows);
    rows_put(o, &f->w.form, run->o, by, 1);
}

/* Some queries of a head, in the order in which tasks are done: the last ones see the most keys and go
 * first. */
struct queries {
    int64_t sequence, head, kv_head, from, queries;
};

/* The task's, of at most `most`. */
static struct queries queries_of(const struct attention *p, int64_t most, int64_t task)
{
    int64_t blocks = ceil_div(p->seq, most), heads = p->sequences * p->heads, head = task % heads % p->heads;
    int64_t from = (blocks - 1 - task / heads) * most;
    return (struct queries){.sequence = task % heads / p->heads,
                            .head = head,
                            .kv_head = head / (p->heads / p->kv_heads),
                            .from = from,
                            .queries = min64(most, p->seq - from)};
}

static int64_t tasks_of(const struct attention *p, int64_t most)
{
    return p->sequences * p->heads * ceil_div(p->seq, most);
}

/* As many queries a task as leave each thread a few tasks. */
static int64_t most_queries(const struct attention *p, int64_t threads)
{
    int64_t most = QUERIES;
    while (most > KEYS && tasks_of(p, most) < 4 * threads)
        most /= 2;
    return most;
}

static struct head_rows keys_of(const struct attention *p, const struct queries *at, int64_t key)
{
    return rows_of(p, p->k, p->ldk, at->sequence, at->kv_head, key, min64(KEYS, at->from + at->queries - key));
}

static struct head_rows values_of(const struct attention *p, const struct queries *at, int64_t key)
{
    return rows_of(p, p->v, p->ldv, at->sequence, at->kv_head, key, min64(KEYS, at->from + at->queries - key));
}

/* Where a task's outputs go, and what the next one begins with. */
static void send_for_next(struct forward *f, const struct queries *at, const struct queries *next)
{
    const struct attention *p = f->p;
    struct head_rows o = rows_of(p, p->o, p->ldo, at->sequence, at->head, at->from, at->queries),
                     q = rows_of(p, p->q, p->ldq, next->sequence, next->head, next->from, next->queries),
                     k = keys_of(p, next, 0), v = values_of(p, next, 0);
    rows_ask(&f->w.later, &f->w.form, &o);
    rows_ask(&f->w.later, &f->w.form, &q);
    rows_ask(&f->w.later, &f->w.form, &k);
    rows_ask(&f->w.later, &f->w.form, &v);
}

static void send_for_block(struct forward *f, const struct queries *at, int64_t key)
{
    struct head_rows k = keys_of(f->p, at, key), v = values_of(f->p, at, key);
    f->w.soon = (struct errands){.then = &f->w.later};
    rows_ask(&f->w.soon, &f->w.form, &k);
    rows_ask(&f->w.soon, &f->w.form, &v);
}

static void forward_task(const struct attention *p, const struct head_form *form, struct queries at,
                         struct queries then)
{
    int64_t wide = form->wide, block = KEYS * wide, strip = STRIP * wide;
    int64_t strips = ceil_div(at.queries, STRIP), end = at.from + at.queries;
    struct forward f = {
        .p = p, .w.form = *form, .s = scratch(SCRATCH_A, KEYS * STRIP), .k = scratch(SCRATCH_B, 2 * block)};
    f.v = f.k + block;
    send_for_next(&f, &at, &then);
    for (int64_t i = 0; i < strips; i++) {
        struct head_rows q = rows_of(p, p->q, p->ldq, at.sequence, at.head, at.from + i * STRIP, STRIP);
        f.run[i].q = scratch(SCRATCH_C, 2 * QUERIES * wide) + 2 * i * strip;
        f.run[i].o = f.run[i].q + strip;
        begin_strip(&f, f.run + i, &q);
    }
    for (int64_t key = 0; key < end; key += KEYS) {
        struct head_rows k = keys_of(p, &at, key), v = values_of(p, &at, key);
        rows_lying(f.k, form, &k, round_up(k.rows, GROUP));
        rows_stacked(f.v, form, &v, v.rows);
        send_for_block(&f, &at, key + KEYS);
        for (int64_t i = 0; i < strips; i++) {
            struct sight of = sight_of(at.from + i * STRIP, min64(STRIP, at.queries - i * STRIP), key);
            if (of.keys > 0)
                see(&f, f.run + i, of, key == 0);
        }
    }
    for (int64_t i = 0; i < strips; i++) {
        struct head_rows o = rows_of(p, p->o, p->ldo, at.sequence, at.head, at.from + i * STRIP, STRIP);
        end_strip(&f, f.run + i, &o,
                  p->lse + (at.head * p->sequences + at.sequence) * p->seq + at.from + i * STRIP);
    }
}

/* Threads take tasks in turn, or nearly: a thread's next task is as many on as there are threads. */
static void cpu_attention(struct stream *s, const struct attention *p)
{
    struct head_form form = form_of(p);
    int64_t threads = omp_get_max_threads(), most = most_queries(p, threads), tasks = tasks_of(p, most);
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < tasks; i++)
        forward_task(p, &form, queries_of(p, most, i), queries_of(p, most, min64(i + threads, tasks - 1)));
}

/* What a task of the backward pass holds: one key head of one sequence. */
struct gradients {
    const struct attention_backward *b;
    struct hands w;
    int64_t sequence, next;     /* its, and the task that is likely to be this thread's next */
    float *k, *v, *k_stacked;   /* [seq, words(wide)], [words(seq), wide] */
    float *dk, *dv;             /* [seq, wide], with room for a tile's rows */
    struct score_tile tile;     /* [KEYS, STRIP] */
    float *q, *d_o;             /* [words(STRIP), wide] */
    float *dq;                  /* [STRIP, wide] */
    float *columns, *d_columns; /* [words(dim), STRIP]: q and d_o */
};

/* A strip's queries and gradients against the keys from `key`; `first`: of the first head that has them. */
static void backward_tile(struct gradients *g, struct sight of, int64_t key, bool first, const float *lse,
                          const float *delta)
{
    const struct attention *p = &g->b->fwd;
    const struct head_form *form = &g->w.form;
    const struct score_tile *t = &g->tile;
    int64_t wide = form->wide, at = key * words(form, wide);
    const struct score_product x[2] = {score_product(&g->w, g->k + at, g->columns),
                                       score_product(&g->w, g->v + at, g->d_columns)};
    if (form->pairs) {
        pairs_gradients(t, of, x, p->scale * LOG2E, lse, delta);
    } else {
        scores(t->dp, of, x + 1, 0);
        scores(t->s, of, x, -INFINITY);
        score_gradients(t->s, t->dp, of, p->scale * LOG2E, lse, delta);
    }
    over_queries(&g->w, g->dv + key * wide, of, t->s, g->d_o, first);
    over_queries(&g->w, g->dk + key * wide, of, t->dp, g->q, first);
    over_keys(&g->w, g->dq, of, t->down, g->k_stacked + words(form, key) * wide, key > 0);
}

LOOP float dot_rows(const void *x, int64_t i, const void *y, int64_t j, int64_t dim, enum type T)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t c = 0; c < dim; c++)
        sum += load(x, i + c, T) * load(y, j + c, T);
    return sum;
}

/* Σ d_o·o of each row. */
HOT static void deltas(float *delta, const struct head_rows *d_o, const struct head_rows *o, int64_t dim,
                       enum type type)
{
    for (int64_t r = 0; r < o->rows; r++)
        BY_TYPE(type,
                delta[r] = dot_rows(d_o->p, d_o->first + r * d_o->ld, o->p, o->first + r * o->ld, dim, T));
}

/* A strip of queries of a head. */
struct strip_place {
    int64_t sequence, head, from;
};

/* Where a task's gradients of keys and values go, and what the next one begins with, or what of it stays in the
 * cache until then. */
static void backward_send_for_next(struct gradients *g, int64_t kv_head, int64_t next)
{
    enum { MOST = 1024 };
    const struct attention_backward *b = g->b;
    const struct attention *p = &b->fwd;
    int64_t sequence = next / p->kv_heads, head = next % p->kv_heads;
    struct head_rows k = rows_of(p, p->k, p->ldk, sequence, head, 0, MOST),
                     v = rows_of(p, p->v, p->ldv, sequence, head, 0, MOST),
                     dk = rows_of(p, b->dk, p->ldk, g->sequence, kv_head, 0, MOST),
                     dv = rows_of(p, b->dv, p->ldv, g->sequence, kv_head, 0, MOST);
    rows_ask(&g->w.later, &g->w.form, &dk);
    rows_ask(&g->w.later, &g->w.form, &dv);
    rows_ask(&g->w.later, &g->w.form, &k);
    rows_ask(&g->w.later, &g->w.form, &v);
}

/* Where a strip's dq goes, and what the next strip begins with, if only that of the next task. */
static void backward_send_for_strip(struct gradients *g, int64_t head, int64_t from)
{
    const struct attention_backward *b = g->b;
    const struct attention *p = &b->fwd;
    struct errands *e = &g->w.soon;
    int64_t share = p->heads / p->kv_heads, sequence = g->sequence;
    struct head_rows dq = rows_of(p, b->dq, p->ldq, sequence, head, from, STRIP);
    from += STRIP;
    if (from >= p->seq) {
        from = 0;
        head++;
        if (head % share == 0) {
            sequence = g->next / p->kv_heads;
            head = g->next % p->kv_heads * share;
        }
    }
    struct head_rows q = rows_of(p, p->q, p->ldq, sequence, head, from, STRIP),
                     o = rows_of(p, p->o, p->ldo, sequence, head, from, STRIP),
                     d_o = rows_of(p, b->d_o, b->lddo, sequence, head, from, STRIP);
    *e = (struct errands){.then = &g->w.later};
    rows_ask(e, &g->w.form, &dq);
    rows_ask(e, &g->w.form, &q);
    rows_ask(e, &g->w.form, &d_o);
    rows_ask(e, &g->w.form, &o);
}

static void backward_strip(struct gradients *g, int64_t head, int64_t from)
{
    const struct attention_backward *b = g->b;
    const struct attention *p = &b->fwd;
    const struct head_form *form = &g->w.form;
    struct head_rows q = rows_of(p, p->q, p->ldq, g->sequence, head, from, STRIP),
                     dq = rows_of(p, b->dq, p->ldq, g->sequence, head, from, STRIP),
                     o = rows_of(p, p->o, p->ldo, g->sequence, head, from, STRIP),
                     d_o = rows_of(p, b->d_o, b->lddo, g->sequence, head, from, STRIP);
    int64_t row = (head * p->sequences + g->sequence) * p->seq + from;
    float lse[STRIP], delta[STRIP] = {0};
    rows_stacked(g->q, form, &q, STRIP);
    rows_stacked(g->d_o, form, &d_o, STRIP);
    rows_columns(g->columns, form, &q, g->q);
    rows_columns(g->d_columns, form, &d_o, g->d_o);
    if (form->pairs) {
        rows_columns(g->dq, form, &o, NULL); /* where there is nothing yet */
        pairs_dots(delta, g->d_columns, g->dq, words(form, p->dim));
    } else {
        deltas(delta, &d_o, &o, p->dim, p->type);
    }
    memcpy(b->delta + row, delta, (size_t)q.rows * sizeof *delta);
    for (int64_t c = 0; c < STRIP; c++)
        lse[c] = c < q.rows ? p->lse[row + c] * LOG2E : INFINITY;
    backward_send_for_strip(g, head, from);
    for (int64_t key = 0; key < from + q.rows; key += KEYS)
        backward_tile(g, sight_of(from, q.rows, key), key, head % (p->heads / p->kv_heads) == 0, lse, delta);
    rows_put(&dq, form, g->dq, NULL, p->scale);
}

static void hold(struct gradients *g, int64_t seq)
{
    const struct head_form *form = &g->w.form;
    int64_t wide = form->wide, strip = STRIP * wide, tile = KEYS * STRIP, all = round_up(seq, GROUP) * wide;
    bool pairs = form->pairs;
    g->dk = scratch(SCRATCH_A, 5 * all);
    g->dv = g->dk + all;
    g->v = g->dv + all;
    g->k = g->v + all;
    g->k_stacked = pairs ? g->k + all : g->k;
    g->q = scratch(SCRATCH_C, 5 * strip);
    g->d_o = g->q + strip;
    g->dq = g->d_o + strip;
    g->columns = g->dq + strip;
    g->d_columns = g->columns + strip;
    float *s = scratch(SCRATCH_B, 3 * tile);
    g->tile = (struct score_tile){.s = s, .dp = s + tile, .down = s + (pairs ? 2 : 1) * tile};
}

static void backward_task(const struct attention_backward *b, const struct head_form *form, int64_t task,
                          int64_t next)
{
    const struct attention *p = &b->fwd;
    int64_t share = p->heads / p->kv_heads, sequence = task / p->kv_heads, kv_head = task % p->kv_heads;
    struct gradients g = {.b = b, .w.form = *form, .sequence = sequence, .next = next};
    struct head_rows k = rows_of(p, p->k, p->ldk, sequence, kv_head, 0, p->seq),
                     v = rows_of(p, p->v, p->ldv, sequence, kv_head, 0, p->seq), dk = k, dv = v;
    dk.p = b->dk;
    dv.p = b->dv;
    hold(&g, p->seq);
    backward_send_for_next(&g, kv_head, next);
    rows_lying(g.k, form, &k, round_up(p->seq, GROUP));
    rows_lying(g.v, form, &v, round_up(p->seq, GROUP));
    if (form->pairs)
        rows_stacked(g.k_stacked, form, &k, p->seq);
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t from = 0; from < p->seq; from += STRIP)
            backward_strip(&g, head, from);
    rows_put(&dk, form, g.dk, NULL, p->scale);
    rows_put(&dv, form, g.dv, NULL, 1);
}

static void cpu_attention_backward(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
    struct head_form form = form_of(p);
    int64_t tasks = p->sequences * p->kv_heads, threads = omp_get_max_threads();
#pragma omp parallel for schedule(dynamic, 1) if (p->sequences * p->seq * p->heads * p->dim > WORTH)
    for (int64_t i = 0; i < tasks; i++)
        backward_task(b, &form, i, min64(i + threads, tasks - 1));
}

void attention_install(struct backend *be)
{
    be->attention = cpu_attention;
    be->attention_backward = cpu_attention_backward;
}

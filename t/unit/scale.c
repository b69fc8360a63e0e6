/* SPDX-License-Identifier: MIT */
/* What a job says of itself, on up to 4096 ranks: right, and in few messages. */
#include <math.h>

#include "base/num.h"
#include "base/process.h"
#include "comm/agree.h"
#include "comm/host.h"
#include "engine/loads.h"
#include "engine/totals.h"
#include "lib/plans.h"
#include "lib/simulated.h"
#include "train/hosts.h"
#include "train/step.h"

enum { PER_HOST = 8, OPERATIONS = 9 };

/* A job, what must come out, and what was counted. */
struct job {
    const struct plan *p;   /* everybody on one node */
    struct plan spread_out; /* the same, whose nodes are the hosts */
    int n;
    int64_t largest;
    struct totals sum; /* added up in rank order; .square is seen to be one value on all ranks */
    double square;
    bool has_square;
    struct spread {
        int groups, first, have, planned;
    } spread;                     /* groups on too many hosts */
    int64_t messages[OPERATIONS]; /* of the rank that has most */
    int wrong[OPERATIONS];
};

/* A rank of it. */
struct member {
    struct sim_rank *r;
    struct job *j;
    struct run run;
    int rank;
};

static int64_t scrambled(int rank)
{
    return (int64_t)((uint64_t)(rank + 1) * 0x9E3779B97F4A7C15u >> 1);
}

static bool largest(struct member *m)
{
    int64_t v = scrambled(m->rank);
    return host_max(m->r->comm.world, &v) == 0 && v == m->j->largest;
}

static bool agreement(struct member *m)
{
    bool agreed = false, failed = m->rank == m->j->n / 2;
    if (comm_agree(&m->r->comm, 0, &agreed) != 0 || agreed)
        return false;
    int r = failed ? error(STATUS_NO, "rank %d", m->rank) : 0;
    r = comm_agree(&m->r->comm, r, &agreed);
    bool ok = r == -1 && agreed && error_status() == STATUS_NO && (*error_text() != 0) == failed;
    error_clear();
    return ok;
}

static bool broadcasts(struct member *m)
{
    int64_t text[100] = {0};
    int root = m->j->n - 1;
    for (int i = 0; i < 100 && m->rank == root; i++)
        text[i] = scrambled(i);
    bool ok = host_broadcast(m->r->comm.world, root, text, sizeof text) == 0;
    for (int i = 0; i < 100; i++)
        ok = ok && text[i] == scrambled(i);
    return ok;
}

static bool gathers(struct member *m)
{
    int64_t mine = scrambled(m->rank), *all = m->rank ? NULL : xcalloc((size_t)m->j->n, sizeof *all);
    bool ok = host_gather(m->r->comm.world, &mine, sizeof mine, all) == 0;
    for (int i = 0; all && i < m->j->n; i++)
        ok = ok && all[i] == scrambled(i);
    free(all);
    return ok;
}

/* What a rank brings to a step. */
static double square_of(int rank)
{
    return 1 / (rank + 1.0);
}

static void set_totals(struct totals *t, int rank)
{
    t->square = square_of(rank);
    t->loss = rank + 0.5;
    t->dropped = rank % 3;
    for (int i = 0; i < ROUTER_LOSSES; i++)
        t->router_loss[i] = rank % 5 + i;
}

static bool totals(struct member *m)
{
    struct job *j = m->j;
    struct engine *e = &m->run.e;
    const struct totals *t = &e->figures->totals;
    set_totals(&e->arena.step->totals, m->rank);
    bool ok = totals_sum(e) == 0 && totals_fetch(e) == 0;
    ok = ok && t->loss == j->sum.loss && t->dropped == j->sum.dropped;
    for (int i = 0; i < ROUTER_LOSSES; i++)
        ok = ok && t->router_loss[i] == j->sum.router_loss[i];
    if (!j->has_square)
        j->square = t->square;
    j->has_square = true;
    return ok && t->square == j->square && fabs(t->square - j->sum.square) <= 1e-13 * j->sum.square;
}

static double spent_of(int rank, int phase)
{
    return phase ? rank * 7 % (phase + 2) : 1;
}

static int64_t bytes_of(int rank)
{
    return ((int64_t)1 << 40) + rank / 3 % 5;
}

static bool is_most(const struct most *m, double value, int rank)
{
    return m->value == value && m->rank == rank;
}

static bool phases(struct member *m)
{
    const struct plan *p = m->j->p;
    struct profile_times times = {0};
    for (int i = 0; i < PHASES; i++)
        times.spent_s[i] = times.hidden_s[PHASES - 1 - i] = spent_of(m->rank, i);
    int pp = (int)p->axes.pp;
    struct figures *f = figures_new(m->rank, &times, bytes_of(m->rank), m->run.e.at.pp, pp);
    f->overflow = m->rank % 2;
    bool ok = figures_reduce(m->r->comm.world, f, pp) == 0 && (m->rank || f->overflow == p->world / 2);
    for (int i = 0; i < PHASES && m->rank == 0; i++) {
        double sum = 0;
        int most = 0;
        for (int r = 0; r < p->world; r++) {
            sum += spent_of(r, i);
            most = spent_of(r, i) > spent_of(most, i) ? r : most;
        }
        ok = ok && f->sum_s[i] == sum && f->hidden_s[PHASES - 1 - i] == sum &&
             is_most(&f->phase_s[i], spent_of(most, i), most);
    }
    for (int s = 0; s < pp && m->rank == 0; s++) {
        int most = -1;
        for (int r = 0; r < p->world; r++)
            most = p->ranks[r].pp == s && (most < 0 || bytes_of(r) > bytes_of(most)) ? r : most;
        ok = ok && is_most(&f->bytes[s], (double)bytes_of(most), most);
    }
    free(f);
    return ok;
}

/* Choices of an expert by the tokens of a dp rank. */
static float load_of(int64_t dp, int64_t layer, int64_t expert)
{
    return (float)((dp * 5 + layer * 3 + expert) % 11);
}

static bool loads(struct member *m)
{
    struct engine *e = &m->run.e;
    const struct plan *p = e->plan;
    int local = 0, where[64];
    for (int v = 0; v < p->stage_count; v++)
        for (int l = 0; l < p->stages[v].layers && p->stages[v].pp == e->at.pp; l++)
            where[local++] = p->stages[v].first + l; /* every layer is MoE */
    for (int64_t i = 0; i < local * e->E; i++)
        e->arena.step->loads[i] = load_of(e->at.dp, where[i / e->E], i % e->E);
    float *all = m->rank ? NULL : xcalloc((size_t)(p->model.layers * e->E), sizeof *all);
    e->moe_layers = local;
    bool ok = loads_sum(e) == 0 && totals_fetch(e) == 0 && loads_collect(e, all) == 0;
    for (int64_t i = 0; i < local * e->E; i++) {
        float sum = 0;
        for (int64_t dp = 0; dp < p->axes.dp; dp++)
            sum += load_of(dp, where[i / e->E], i % e->E);
        ok = ok && e->figures->loads[i] == sum;
    }
    for (int64_t i = 0; all && i < p->model.layers * e->E; i++) {
        float sum = 0;
        for (int64_t dp = 0; dp < p->axes.dp; dp++)
            sum += load_of(dp, i / e->E, i % e->E);
        ok = ok && all[i] == sum;
    }
    free(all);
    return ok;
}

static bool hosts_as_planned(struct member *m)
{
    int hosts = 0, want = (int)ceil_div(m->j->n, PER_HOST);
    return hosts_check(&m->r->comm, &m->j->spread_out, false, &hosts) == 0 && (m->rank || hosts == want);
}

static bool hosts_too_many(struct member *m)
{
    const struct job *j = m->j;
    int hosts, warned = hosts_check(&m->r->comm, j->p, true, &hosts);
    int r = hosts_check(&m->r->comm, j->p, false, &hosts);
    if (m->rank || j->spread.groups == 0)
        return warned == 0 && r == 0;
    char words[128], more[64] = ": ";
    const struct plan_group *g = &j->p->groups[j->spread.first];
    if (j->spread.groups > 1)
        snprintf(more, sizeof more, " (and so for %d more): ", j->spread.groups - 1);
    snprintf(words, sizeof words, "group %s %d is on %d hosts, the plan says %d%s", group_name[g->kind],
             g->index, j->spread.have, j->spread.planned, more);
    bool ok = warned == 0 && r == -1 && error_status() == STATUS_USAGE && strstr(error_text(), words);
    error_clear();
    return ok;
}

/* `ways`: how often it goes up or down a tree, one above another. */
static const struct {
    const char *name;
    bool (*run)(struct member *);
    int ways;
} operations[OPERATIONS] = {
    {"host_max", largest, 2},
    {"comm_agree, twice", agreement, 4},
    {"host_broadcast", broadcasts, 1},
    {"host_gather", gathers, 1},
    {"the totals of a step", totals, 2},
    {"the figures of a step", phases, 1},
    {"the loads of a step", loads, 3},
    {"hosts_check", hosts_as_planned, 4},
    {"hosts_check, twice, groups astray", hosts_too_many, 8},
};

static void member_run(struct sim_rank *r, void *job)
{
    struct job *j = job;
    struct member *m = xcalloc(1, sizeof *m);
    *m = (struct member){.r = r, .j = j, .rank = r->comm.rank};
    m->run.comm = &r->comm;
    m->run.plan = *j->p;
    m->run.e = (struct engine){.plan = j->p,
                               .model = &j->p->model,
                               .rank = m->rank,
                               .at = j->p->ranks[m->rank],
                               .be = backend_open("ref", 0, 1),
                               .comm = &r->comm,
                               .E = j->p->model.experts};
    for (int k = 0; k < GROUP_KINDS; k++) {
        const struct plan_group *g = plan_group_of(j->p, k, m->rank);
        m->run.e.group[k] = g ? comm_group(&r->comm, group_name[k], g->ranks, g->size) : NULL;
    }
    /* on `ref` the host's memory is the device's */
    struct engine *e = &m->run.e;
    e->arena.step_bytes = (int64_t)sizeof *e->arena.step + j->p->model.layers * e->E * 4;
    e->arena.step = xcalloc((size_t)e->arena.step_bytes, 1);
    e->figures = xcalloc((size_t)e->arena.step_bytes, 1);
    comm_attach(&r->comm, e->be);
    for (int i = 0; i < OPERATIONS; i++) {
        r->messages = 0;
        j->wrong[i] += !operations[i].run(m);
        j->messages[i] = max64(j->messages[i], r->messages);
    }
    for (int k = 0; k < GROUP_KINDS; k++)
        comm_group_free(m->run.e.group[k]);
    free(e->arena.step);
    free(e->figures);
    free(m);
}

/* What comes out when one looks at every rank. */
static void expect(struct job *j)
{
    for (int i = 0; i < j->n; i++) {
        struct totals t;
        set_totals(&t, i);
        j->largest = max64(j->largest, scrambled(i));
        j->sum.square += t.square;
        j->sum.loss += t.loss;
        j->sum.dropped += t.dropped;
        for (int k = 0; k < ROUTER_LOSSES; k++)
            j->sum.router_loss[k] += t.router_loss[k];
    }
    bool *seen = xcalloc((size_t)j->n, sizeof *seen);
    for (int i = 0; i < j->p->group_count; i++) {
        const struct plan_group *g = &j->p->groups[i];
        int have = 0;
        memset(seen, 0, (size_t)j->n);
        for (int k = 0; k < g->size; k++) {
            have += !seen[g->ranks[k] / PER_HOST];
            seen[g->ranks[k] / PER_HOST] = true;
        }
        if (have > 1 && j->spread.groups++ == 0)
            j->spread = (struct spread){1, i, have, 1};
    }
    free(seen);
}

/* In both orders of turns: the sums must not tell them apart. */
static void job_runs(const struct plan *p)
{
    struct job j = {.p = p, .n = p->world, .largest = INT64_MIN};
    expect(&j);
    j.spread_out = *p;
    j.spread_out.ranks = xcalloc((size_t)j.n, sizeof *p->ranks);
    for (int i = 0; i < j.n; i++) {
        j.spread_out.ranks[i] = p->ranks[i];
        j.spread_out.ranks[i].node = i / PER_HOST;
    }
    double start = now_s();
    assert_true(simulate(j.n, PER_HOST, false, member_run, &j));
    assert_true(simulate(j.n, PER_HOST, true, member_run, &j));
    double levels = log2(j.n) + 1;
    printf("# %d ranks in %.2f s:", j.n, now_s() - start);
    for (int i = 0; i < OPERATIONS; i++) {
        printf(" %d", (int)j.messages[i]);
        if (j.wrong[i])
            fail_msg("%s: wrong on %d of %d ranks", operations[i].name, j.wrong[i], j.n);
        if (!((double)j.messages[i] <= 4 * operations[i].ways * levels))
            fail_msg("%s: a rank of %d sends and receives %d messages", operations[i].name, j.n,
                     (int)j.messages[i]);
        if (j.n > PER_HOST && !j.messages[i])
            fail_msg("%s: nothing was sent", operations[i].name);
    }
    printf(" messages\n");
    free(j.spread_out.ranks);
}

static void few_messages(void **state)
{
    static const struct axes axes[] = {{.dp = 1},
                                       {.tp = 2},
                                       {.dp = 3},
                                       {.dp = 7},
                                       {.dp = 17},
                                       {.tp = 2, .pp = 4, .ep = 4, .dp = 8},
                                       {.tp = 2, .pp = 4, .ep = 2, .dp = 125},
                                       {.tp = 4, .pp = 4, .ep = 8, .dp = 256}};
    for (size_t i = 0; i < sizeof axes / sizeof *axes; i++) {
        struct request r = tiny;
        r.axes = axes[i];
        r.batch.global = max64(axes[i].dp, 1) * 4;
        struct plan p = made(r);
        job_runs(&p);
        plan_release(&p);
    }
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(few_messages)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

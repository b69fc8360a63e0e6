/* SPDX-License-Identifier: MIT */
/* Keys are looked for behind the one found last, as records have them in one order. */
#include "stat/scan.h"

#include <math.h>
#include <string.h>

#include "stat/cursor.h"

const char *const comm_time_name[COMM_TIMES] = {"ep", "tp", "pp", "dp"};

void stage_memory_clear(struct stage_memory *m)
{
    m->count = 0;
}

void stage_memory_add(struct stage_memory *m, int stage, double bytes, int rank)
{
    if (stage < 0 || !(bytes >= 0))
        return;
    if (stage >= STAGES)
        stage = STAGES - 1;
    for (; m->count <= stage; m->count++) {
        m->bytes[m->count] = NAN;
        m->rank[m->count] = -1;
    }
    if (m->bytes[stage] >= bytes)
        return;
    m->bytes[stage] = bytes;
    m->rank[stage] = rank;
}

void step_record_clear(struct step_record *r)
{
    *r = (struct step_record){.at = -1,
                              .loss = NAN,
                              .grad_norm = NAN,
                              .lr = NAN,
                              .time_s = NAN,
                              .load_max_over_mean = NAN,
                              .load_min_over_mean = NAN,
                              .load_std = NAN,
                              .peak_bytes = NAN};
    for (int i = 0; i < ROUTER_LOSSES; i++)
        r->router_loss[i] = NAN;
    for (int i = 0; i < COMM_TIMES; i++)
        r->busy_s[i] = r->exposed_s[i] = NAN;
    for (int i = 0; i < PHASES; i++) {
        r->phase_s[i] = r->phase_max_s[i] = r->phase_min_s[i] = NAN;
        r->phase_rank[i] = -1;
    }
}

/* ---- parts of a record ---- */

/* Which of the names the key is, or -1. *next: the one to try first, and then the one behind what was found. */
static inline int which(const struct members *m, const char *const *names, int count, int *next)
{
    for (int k = 0; k < count; k++) {
        int i = *next + k < count ? *next + k : *next + k - count;
        if (strncmp(names[i], m->key, m->bytes) == 0 && !names[i][m->bytes]) {
            *next = i + 1 < count ? i + 1 : 0;
            return i;
        }
    }
    return -1;
}

/* An object of numbers: those with these names into `to`; a value of another kind is passed over. */
static bool reals(struct json_cursor *c, const char *const *names, int count, double *const *to)
{
    struct members m = {0};
    int r, next = 0;
    if (*c->p != '{')
        return cursor_value(c);
    while ((r = cursor_member(c, &m)) > 0) {
        int k = which(&m, names, count, &next);
        if (k < 0 ? !cursor_value(c) : !cursor_real(c, to[k]))
            return false;
    }
    return r == 0;
}

static int rank_of(double x)
{
    return x >= 0 && x <= INT32_MAX && x == floor(x) ? (int)x : -1;
}

static bool phases(struct json_cursor *c, struct step_record *to)
{
    static const char *const names[] = {"mean", "max", "rank"};
    struct members m = {0};
    int r, next = 0;
    if (*c->p != '{')
        return cursor_value(c);
    while ((r = cursor_member(c, &m)) > 0) {
        int k = which(&m, phase_name, PHASES, &next);
        double rank = -1;
        if (k < 0 ? !cursor_value(c)
                  : !reals(c, names, 3, (double *const[]){&to->phase_s[k], &to->phase_max_s[k], &rank}))
            return false;
        if (k >= 0)
            to->phase_rank[k] = rank_of(rank);
    }
    return r == 0;
}

static bool comm_times(struct json_cursor *c, struct step_record *to)
{
    static const char *const names[] = {"busy", "exposed"};
    struct members m = {0};
    int r, next = 0;
    if (*c->p != '{')
        return cursor_value(c);
    while ((r = cursor_member(c, &m)) > 0) {
        int k = which(&m, comm_time_name, COMM_TIMES, &next);
        if (k < 0 ? !cursor_value(c)
                  : !reals(c, names, 2, (double *const[]){&to->busy_s[k], &to->exposed_s[k]}))
            return false;
    }
    return r == 0;
}

static bool load_summary(struct json_cursor *c, struct step_record *to)
{
    static const char *const names[] = {"max_over_mean", "min_over_mean", "std"};
    return reals(c, names, 3,
                 (double *const[]){&to->load_max_over_mean, &to->load_min_over_mean, &to->load_std});
}

static bool memory_bytes(struct json_cursor *c, struct stage_memory *memory)
{
    static const char *const names[] = {"stage", "max", "rank"};
    if (*c->p != '[')
        return cursor_value(c);
    c->p++;
    if (cursor_take(c, ']'))
        return true;
    do {
        double stage = NAN, bytes = NAN, rank = NAN;
        cursor_blanks(c);
        if (!reals(c, names, 3, (double *const[]){&stage, &bytes, &rank}))
            return false;
        stage_memory_add(memory, rank_of(stage), bytes, rank_of(rank));
    } while (cursor_take(c, ','));
    return cursor_take(c, ']');
}

/* ---- a record ---- */

enum key { KEY_KIND, KEY_STEP, KEY_LOADS, KEY_PHASES, KEY_COMM, KEY_LOAD, KEY_MEMORY, KEY_REAL, KEY_COUNT };

#define REAL(name)                                                                                             \
    {                                                                                                          \
#name, KEY_REAL, offsetof(struct step_record, name)                                                    \
    }
#define COUNT(name)                                                                                            \
    {                                                                                                          \
#name, KEY_COUNT, offsetof(struct step_record, name)                                                   \
    }
#define ROUTER_LOSS(id, key, ...)                                                                              \
    {key, KEY_REAL, offsetof(struct step_record, router_loss) + id * sizeof(double)},

/* In the order in which moe-train writes them. */
static const struct {
    const char *name;
    enum key key;
    size_t at;
} keys[] = {
    {"kind", KEY_KIND},
    {"step", KEY_STEP},
    REAL(loss),
    /* clang-format off */
    ROUTER_LOSS_ROWS(ROUTER_LOSS)
    /* clang-format on */
    REAL(grad_norm),
    REAL(lr),
    COUNT(tokens),
    REAL(time_s),
    {"phases", KEY_PHASES},
    {"comm", KEY_COMM},
    COUNT(dropped),
    COUNT(overflow),
    {"memory_bytes", KEY_MEMORY},
    REAL(peak_bytes),
    {"load", KEY_LOAD},
    {"expert_load", KEY_LOADS},
};

struct record_read {
    struct step_record *r;
    struct stage_memory memory;
    const char *begin, *kind; /* the kind's text, or NULL */
    size_t kind_bytes;
    bool has_step;
};

static bool read_real(struct json_cursor *c, struct step_record *r, size_t at)
{
    bool none = *c->p == '"' || *c->p == '{' || *c->p == '[' || *c->p == 't' || *c->p == 'f';
    double *to = (double *)((char *)r + at);
    if (!cursor_real(c, to))
        return false;
    if (at == offsetof(struct step_record, loss) || at == offsetof(struct step_record, grad_norm))
        r->diverged |= !none && !isfinite(*to);
    return true;
}

static bool read_kind(struct json_cursor *c, struct record_read *x)
{
    const char *from = c->p + 1;
    bool is_string = *c->p == '"';
    if (!cursor_value(c))
        return false;
    x->kind = is_string ? from : NULL;
    x->kind_bytes = is_string ? (size_t)(c->p - 1 - from) : 0;
    return true;
}

static bool read_member(struct json_cursor *c, struct record_read *x, int k)
{
    bool whole;
    int64_t i;
    switch (keys[k].key) {
    case KEY_KIND:
        return read_kind(c, x);
    case KEY_STEP:
        if (!cursor_integer(c, &x->r->step, &whole))
            return false;
        x->has_step = whole && x->r->step >= 0;
        return true;
    case KEY_LOADS:
        x->r->loads_at = *c->p == '[' ? (uint32_t)(c->p - x->begin) : 0;
        return cursor_value(c);
    case KEY_PHASES:
        return phases(c, x->r);
    case KEY_COMM:
        return comm_times(c, x->r);
    case KEY_LOAD:
        return load_summary(c, x->r);
    case KEY_MEMORY:
        return memory_bytes(c, &x->memory);
    case KEY_REAL:
        return read_real(c, x->r, keys[k].at);
    default:
        if (!cursor_integer(c, &i, &whole))
            return false;
        *(int64_t *)((char *)x->r + keys[k].at) = i;
        return true;
    }
}

static bool read_object(struct json_cursor *c, struct record_read *x)
{
    enum { KEYS = sizeof keys / sizeof *keys };
    struct members m = {0};
    int r, next = 0;
    step_record_clear(x->r);
    stage_memory_clear(&x->memory);
    x->begin = c->p;
    x->kind = NULL;
    x->has_step = false;
    while ((r = cursor_member(c, &m)) > 0) {
        int found = -1;
        for (int k = 0; k < KEYS && found < 0; k++) {
            int i = next + k < KEYS ? next + k : next + k - KEYS;
            if (strncmp(keys[i].name, m.key, m.bytes) == 0 && !keys[i].name[m.bytes])
                found = i;
        }
        if (found < 0 ? !cursor_value(c) : !read_member(c, x, found))
            return false;
        next = found < 0 ? next : found + 1;
    }
    x->r->record_bytes = (uint32_t)(c->p - x->begin);
    return r == 0;
}

enum scan_kind scan_record(const char **p, const char *end, const char **begin, struct step_record *r,
                           struct stage_memory *memory, bool *garbage)
{
    static const char head[] = "{\"kind\":";
    struct json_cursor c = {*p};
    struct record_read x = {.r = r};
    for (cursor_blanks(&c); c.p < end; cursor_blanks(&c)) {
        const char *from = c.p;
        bool good = *from == '{' && read_object(&c, &x);
        if (good && x.kind && (x.kind_bytes != 4 || memcmp(x.kind, "step", 4) != 0 || x.has_step)) {
            bool step = x.kind_bytes == 4 && memcmp(x.kind, "step", 4) == 0;
            for (int i = 0; step && memory && i < x.memory.count; i++)
                stage_memory_add(memory, i, x.memory.bytes[i], x.memory.rank[i]);
            *begin = from;
            *p = c.p;
            return step ? SCAN_STEP : SCAN_OTHER;
        }
        *garbage = true;
        from += good ? c.p - from : 1;
        c.p = memmem(from, (size_t)(end - from), head, sizeof head - 1);
        if (!c.p)
            break;
    }
    *p = end;
    return SCAN_NOTHING;
}

/* ---- loads ---- */

/* Digits alone, as nearly all of them are; else whatever number it is. */
static inline bool one_load(struct json_cursor *c, double *to)
{
    const char *p = c->p;
    uint64_t w = 0;
    while (*p >= '0' && *p <= '9' && p < c->p + 18)
        w = w * 10 + (uint64_t)(*p++ - '0');
    if (p > c->p && (*p == ',' || *p == ']') && (*c->p != '0' || p == c->p + 1)) {
        c->p = p;
        *to = (double)w;
        return true;
    }
    cursor_blanks(c);
    return cursor_real(c, to) && *to >= 0 && isfinite(*to);
}

static bool load_row(struct json_cursor *c, size_t *index, double *to, size_t room)
{
    double load;
    if (!cursor_take(c, '['))
        return false;
    do {
        if (!one_load(c, &load))
            return false;
        if (to && *index >= room)
            return false;
        if (to)
            to[*index] = load;
        ++*index;
    } while (*c->p == ',' ? c->p++, true : cursor_take(c, ','));
    return cursor_take(c, ']');
}

bool scan_loads(const char *p, int *layers, int *experts, double *to, size_t room)
{
    struct json_cursor c = {p};
    size_t index = 0, before = 0, width = 0;
    *layers = 0;
    if (!cursor_take(&c, '['))
        return false;
    do {
        if (!load_row(&c, &index, to, room) || (width && index - before != width))
            return false;
        width = index - before;
        before = index;
        ++*layers;
    } while (cursor_take(&c, ','));
    *experts = (int)width;
    return cursor_take(&c, ']');
}

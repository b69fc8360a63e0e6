/* SPDX-License-Identifier: MIT */
/* The rules are enough: of a thousand random edits of valid plans, each is refused, found by a rule, or changes
 * nothing that is laid out, run or predicted. An edit that is none of these is a rule that is missing. */
#include <math.h>
#include <zlib.h>

#include "base/error.h"
#include "base/num.h"
#include "check/check.h"
#include "emit/json.h"
#include "lib/plans.h"
#include "plan/fields.h"

enum { EDITS_A_PLAN = 250, MOST_LINES = 4096, MOST_WORDS = 64 };

/* ---- chance, the same on every machine ---- */

static uint64_t seed;

static uint32_t chance(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((seed >> 33) % below);
}

/* ---- a plan as lines, without its sum ---- */

struct lines {
    char *line[MOST_LINES];
    int count;
};

static void split_lines(struct lines *l, const char *text)
{
    l->count = 0;
    for (const char *at = text; *at; at += strcspn(at, "\n") + 1)
        if (strncmp(at, "sum ", 4) != 0) {
            assert_true(l->count < MOST_LINES);
            l->line[l->count++] = xasprintf("%.*s", (int)strcspn(at, "\n"), at);
        }
}

static void release_lines(struct lines *l)
{
    for (int i = 0; i < l->count; i++)
        free(l->line[i]);
}

/* With the sum over it. */
static char *join_lines(const struct lines *l)
{
    size_t bytes = 64;
    for (int i = 0; i < l->count; i++)
        bytes += strlen(l->line[i]) + 1;
    char *text = xmalloc(bytes), *at = text;
    for (int i = 0; i < l->count; i++)
        at += sprintf(at, "%s\n", l->line[i]);
    sprintf(at, "sum crc32=%08lx\n", crc32_z(0, (const unsigned char *)text, (size_t)(at - text)));
    return text;
}

static void put_line(struct lines *l, int i, char *line)
{
    free(l->line[i]);
    l->line[i] = line;
}

/* A kind of record by chance, then a line of it: there are many ranks and groups, and one `axes`. */
static int some_line(const struct lines *l)
{
    int kinds[MOST_LINES], count = 0;
    for (int i = 0; i < l->count; i++)
        if (i == 0 || strncmp(l->line[i], l->line[i - 1], strcspn(l->line[i], " ") + 1) != 0)
            kinds[count++] = i;
    int from = kinds[chance((uint32_t)count)], to = from + 1;
    while (to < l->count && strncmp(l->line[to], l->line[from], strcspn(l->line[from], " ") + 1) == 0)
        to++;
    return from + (int)chance((uint32_t)(to - from));
}

/* ---- edits ---- */

/* Where the words of a line begin, and how many there are. */
static int words_of(const char *line, const char *word[MOST_WORDS])
{
    int n = 0;
    for (const char *at = line; *at && n < MOST_WORDS; at += strcspn(at, " "), at += strspn(at, " "))
        word[n++] = at;
    return n;
}

static char *with(const char *line, const char *from, size_t bytes, const char *instead)
{
    return xasprintf("%.*s%s%s", (int)(from - line), line, instead, from + bytes);
}

/* A number, which is most of what a plan says: to one near it, or far. */
static void edit_number(struct lines *l)
{
    int i = some_line(l), count = 0;
    const char *line = l->line[i], *found[512];
    for (const char *at = line; *at && count < 512; at += strspn(at, "0123456789"), at += *at != 0)
        if ((at += strcspn(at, "0123456789")), *at)
            found[count++] = at;
    if (!count)
        return;
    const char *at = found[chance((uint32_t)count)];
    size_t digits = strspn(at, "0123456789");
    long long was = strtoll(at, NULL, 10);
    const long long to[] = {was + 1, was - 1, 2 * was, was / 2, 0, chance(10), chance(200), was * 10 + 1};
    char text[32];
    snprintf(text, sizeof text, "%lld", to[chance(8)]);
    put_line(l, i, with(line, at, digits, text));
}

static void edit_character(struct lines *l)
{
    static const char of[] = "0123456789abcdefghijklmnopqrstuvwxyzFBW=-,. #|";
    int i = some_line(l);
    if (*l->line[i])
        l->line[i][chance((uint32_t)strlen(l->line[i]))] = of[chance(sizeof of - 1)];
}

/* Words that stand for something else where they are. */
static void edit_choice(struct lines *l)
{
    static const char *const words[] = {"none",    "selective",      "full",          "f32",      "bf16",
                                        "fp8",     "1f1b",           "gpipe",         "zb-h1",    "off",
                                        "on",      "prob",           "position",      "local",    "cpu",
                                        "cuda",    "interleaved",    "null",          "alltoall", "deepep",
                                        "mixtral", "tp-cp-ep-dp-pp", "tp-ep-dp-pp-cp"};
    const char *word[MOST_WORDS];
    int i = some_line(l), n = words_of(l->line[i], word), k = (int)chance((uint32_t)n);
    const char *value = word[k] + strcspn(word[k], "= ");
    if (*value == '=')
        put_line(l, i, with(l->line[i], value + 1, strcspn(value + 1, " "), words[chance(23)]));
}

static void drop_word(struct lines *l)
{
    const char *word[MOST_WORDS];
    int i = some_line(l), n = words_of(l->line[i], word), k = (int)chance((uint32_t)n);
    size_t bytes = strcspn(word[k], " ");
    put_line(l, i, with(l->line[i], word[k], bytes + (word[k][bytes] == ' '), ""));
}

static void repeat_word(struct lines *l)
{
    const char *word[MOST_WORDS];
    int i = some_line(l), n = words_of(l->line[i], word), k = (int)chance((uint32_t)n);
    char *again = xasprintf("%.*s ", (int)strcspn(word[k], " "), word[k]);
    put_line(l, i, with(l->line[i], word[chance((uint32_t)n)], 0, again));
    free(again);
}

/* Two words, or two items of a list, in each other's place. */
static void swap_words(struct lines *l, const char *apart)
{
    const char *part[512];
    int i = some_line(l), n = 0;
    for (const char *at = l->line[i]; *at && n < 512; at += strcspn(at, apart), at += *at != 0)
        part[n++] = at;
    int a = (int)chance((uint32_t)n), b = (int)chance((uint32_t)n), first = a < b ? a : b,
        second = a + b - first;
    if (first == second)
        return;
    int x = (int)strcspn(part[first], apart), y = (int)strcspn(part[second], apart);
    const char *between = part[first] + x;
    put_line(l, i,
             xasprintf("%.*s%.*s%.*s%.*s%s", (int)(part[first] - l->line[i]), l->line[i], y, part[second],
                       (int)(part[second] - between), between, x, part[first], part[second] + y));
}

static void swap_word(struct lines *l)
{
    swap_words(l, " ");
}

static void swap_item(struct lines *l)
{
    swap_words(l, ",= ");
}

static void drop_line(struct lines *l)
{
    int i = some_line(l);
    free(l->line[i]);
    memmove(&l->line[i], &l->line[i + 1], (size_t)(l->count - i - 1) * sizeof *l->line);
    l->count--;
}

static void repeat_line(struct lines *l)
{
    int i = some_line(l), to = some_line(l);
    char *line = xstrdup(l->line[i]);
    memmove(&l->line[to + 1], &l->line[to], (size_t)(l->count - to) * sizeof *l->line);
    l->line[to] = line;
    l->count++;
}

static void swap_lines(struct lines *l)
{
    int a = some_line(l), b = some_line(l);
    char *line = l->line[a];
    l->line[a] = l->line[b];
    l->line[b] = line;
}

/* Two lines of a kind: their values, not their place. */
static void swap_values(struct lines *l)
{
    int a = some_line(l), b = some_line(l);
    const char *x[MOST_WORDS], *y[MOST_WORDS];
    int n = words_of(l->line[a], x), m = words_of(l->line[b], y);
    if (a == b || n < 3 || n != m || strncmp(l->line[a], l->line[b], strcspn(l->line[a], " ") + 1) != 0)
        return;
    int k = 2 + (int)chance((uint32_t)n - 2);
    char *one = with(l->line[a], x[k], strcspn(x[k], " "), "\1"), *at = strchr(one, 1);
    char *two = with(l->line[b], y[k], strcspn(y[k], " "), "\1"), *to = strchr(two, 1);
    char *v = xasprintf("%.*s", (int)strcspn(x[k], " "), x[k]),
         *w = xasprintf("%.*s", (int)strcspn(y[k], " "), y[k]);
    put_line(l, a, with(one, at, 1, w));
    put_line(l, b, with(two, to, 1, v));
    free(one);
    free(two);
    free(v);
    free(w);
}

static const struct {
    const char *name;
    void (*edit)(struct lines *l);
    int often;
} kinds[] = {
    {"number", edit_number, 6},       {"character", edit_character, 3},  {"choice", edit_choice, 3},
    {"word gone", drop_word, 2},      {"word again", repeat_word, 1},    {"words swapped", swap_word, 2},
    {"items swapped", swap_item, 2},  {"line gone", drop_line, 1},       {"line again", repeat_line, 1},
    {"lines swapped", swap_lines, 2}, {"values swapped", swap_values, 2}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static int some_kind(void)
{
    int all = 0, at;
    for (int i = 0; i < KINDS; i++)
        all += kinds[i].often;
    at = (int)chance((uint32_t)all);
    for (int i = 0;; at -= kinds[i++].often)
        if (at < kinds[i].often)
            return i;
}

/* ---- what an edit comes to ---- */

/* All of a plan that is laid out, run or predicted; not its names, nor what no figure of it rests on: which
 * version counted (the figures have been counted again), the order's text (the coordinates are there), a
 * processor's own figures, whose capacity and which drops where nothing is dropped. */
static char *meaning(const struct plan *of)
{
    struct plan p = *of;
    static char *text;
    size_t bytes;
    p.made_by = NULL;
    *p.model.name = *p.machine.name = *p.axes.order = '\0';
    p.predict.arena = p.predict.seconds = 0;
    if (p.machine.device == DEVICE_CPU)
        p.machine = (struct machine){.device = DEVICE_CPU, .nodes = 1, .per_node = 1};
    if (!(p.routing.capacity > 0))
        p.routing.drop_position = p.routing.local_scope = false;
    FILE *f = open_memstream(&text, &bytes);
    assert_int_equal(plan_write_json(&p, f), 0);
    fclose(f);
    return text;
}

/* Rows are reserved for lambda where they come from other ranks, and as many as come. */
static bool lambda_matters(const struct plan *p)
{
    return p->model.moe_layers && p->axes.ep > 1 && !(p->routing.capacity > 0);
}

/* The same after setting what may be chosen freely, in a plan that is as right either way: by what choices are
 * dropped, for what skew nothing is reserved, over how many replicas nothing is cut, in how large buckets. */
static bool other_choice(const struct plan *was, const struct plan *is)
{
    struct plan a = *was, b = *is;
    b.routing.drop_position = a.routing.drop_position;
    if (!lambda_matters(&a))
        b.routing.lambda = a.routing.lambda;
    if (a.axes.dp * a.axes.cp == 1 && a.axes.edp == 1)
        b.training.zero = a.training.zero;
    if (a.training.bucket_bytes && b.training.bucket_bytes)
        b.training.bucket_bytes = a.training.bucket_bytes;
    char *x = meaning(&a), *y = meaning(&b);
    bool same = strcmp(x, y) == 0;
    free(x);
    free(y);
    return same;
}

enum outcome { REFUSED, FAILED, WARNED, SAME, CHOSEN, OUTCOMES };

/* Figures that are rounded otherwise are the same. */
static void round_alike(struct plan *p, const struct plan *of)
{
    for (const struct field *f = predict_fields.fields; f->key; f++) {
        double *is = (double *)((char *)p + f->at), was = f->type == FIELD_INT ? NAN : field_num(f, of);
        if (fabs(was) < 1e9 && fabs(*is - was) <= 1e-9 * fabs(was)) /* and bytes are not rounded */
            *is = was;
    }
}

/* A rule that is worse than before the edit. */
static enum outcome judge(struct plan *p, const struct findings *before, const struct plan *of,
                          const char *meant)
{
    struct findings f;
    enum outcome o = SAME;
    plan_check(p, &f);
    assert_int_equal(f.count, before->count);
    for (int i = 0; i < f.count; i++)
        if (f.list[i].verdict > before->list[i].verdict)
            o = f.list[i].verdict == VERDICT_FAIL ? FAILED : o == FAILED ? o : WARNED;
    findings_release(&f);
    if (o != SAME)
        return o;
    round_alike(p, of);
    char *is = meaning(p);
    bool same = strcmp(is, meant) == 0;
    free(is);
    return same ? SAME : other_choice(of, p) ? CHOSEN : OUTCOMES;
}

static void show_edit(const struct lines *was, const struct lines *is, const char *kind)
{
    for (int i = 0; i < was->count && i < is->count; i++)
        if (strcmp(was->line[i], is->line[i]) != 0) {
            print_message("# not found (%s): %.300s\n#     was: %.300s\n", kind, is->line[i], was->line[i]);
            return;
        }
}

static int count[OUTCOMES + 1], all;

/* Many edits of one plan. */
static void mutate(struct request r, int64_t plan_seed)
{
    struct plan p = made(r), q;
    struct findings before;
    struct lines was, is;
    size_t bytes;
    char *text = text_of(&p, &bytes), *meant = meaning(&p), *edited;
    plan_release(&p);
    assert_int_equal(plan_parse(&p, text, bytes, "plan", true), 0);
    plan_check(&p, &before);
    assert_int_equal(before.fails, 0);
    split_lines(&was, text);
    for (int n = 0; n < EDITS_A_PLAN; n++) {
        seed = (uint64_t)(plan_seed * EDITS_A_PLAN + n);
        chance(2);
        int kind = some_kind();
        split_lines(&is, text);
        kinds[kind].edit(&is);
        edited = join_lines(&is);
        if (strcmp(edited, text) != 0) {
            enum outcome o = REFUSED;
            if (plan_parse(&q, edited, strlen(edited), "plan", true) == 0) {
                o = judge(&q, &before, &p, meant);
                plan_release(&q);
            }
            if (o == OUTCOMES)
                show_edit(&was, &is, kinds[kind].name);
            count[o]++;
            all++;
        }
        free(edited);
        release_lines(&is);
    }
    release_lines(&was);
    findings_release(&before);
    plan_release(&p);
    free(text);
    free(meant);
}

static void test_edits(void **state)
{
    char *tied = tied_config();
    const struct request requests[] = {
        {.model = "moe-tiny", .axes = {.tp = 2, .ep = 2, .pp = 2, .dp = 2}, .batch = {.global = 8}, .zero = -1},
        {.model = "moe-tiny",
         .cluster = "h100",
         .axes = {.tp = 2, .ep = 4, .pp = 2, .vpp = 2, .dp = 4},
         .batch = {.global = 16},
         .zero = -1},
        {.model = "moe-tiny",
         .cluster = "h100",
         .world = 8,
         .axes = {.ep = 4, .pp = 2},
         .batch = {.global = 16},
         .routing = {.capacity = 1.2},
         .schedule = "zb-h1",
         .zero = 0},
        {.model = tied,
         .cluster = "a100-80g",
         .axes = {.tp = 4, .ep = 2, .etp = 2, .pp = 5},
         .precision = "bf16",
         .zero = -1},
        {.model = "qwen3-30b-a3b",
         .cluster = "h200",
         .world = 32,
         .axes = {.tp = 4, .ep = 8, .pp = 2, .cp = 2},
         .batch = {.seq = 4096},
         .recompute = "full",
         .zero = 2},
        {.model = "deepseek-v2-lite",
         .cluster = "mi300x",
         .world = 16,
         .axes = {.ep = 8, .pp = 2},
         .schedule = "gpipe",
         .zero = -1},
        {.strategy = "ep16-tp4-pp2", .zero = -1},
        {.model = "moe-tiny", .axes = {.ep = 2, .dp = 2}, .overlap = "on", .bucket_bytes = 100000, .zero = -1},
        {.model = "moe-tiny", .zero = -1},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
        mutate(requests[i], (int64_t)i + 1);
    unlink(tied);
    print_message(
        "# %d edits: %d refused, %d fail a rule, %d are warned of, %d change nothing, %d another choice\n", all,
        count[REFUSED], count[FAILED], count[WARNED], count[SAME], count[CHOSEN]);
    assert_int_equal(count[OUTCOMES], 0);
    assert_true(all >= 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_edits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

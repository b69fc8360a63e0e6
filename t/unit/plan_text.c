/* SPDX-License-Identifier: MIT */
/* The text of plans: it reads back the same, and a damaged one is an error like any other. */
#include <unistd.h>

#include "check/check.h"
#include "check/runnable.h"
#include "emit/json.h"
#include "lib/plans.h"

static void test_round_trip(void **state)
{
    char *path = tied_config();
    struct request requests[] = {
        tiny,
        {.strategy = "ep16-tp4-pp2", .zero = -1, .made_by = "a command line"},
        {.model = path,
         .axes = {.tp = 4, .pp = 3, .dp = 2},
         .split = "0,5,0",
         .schedule = "zb-h1",
         .zero = 0,
         .routing = {.capacity = 1.25}},
        {.model = "moe-tiny",
         .axes = {.pp = 2, .vpp = 2, .cp = 2},
         .overlap = "on",
         .grad_dtype = "bf16",
         .zero = 3,
         .precision = "fp8"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        size_t bytes, again_bytes;
        struct plan p = made(requests[i]), q;
        char *text = text_of(&p, &bytes);
        if (plan_parse(&q, text, bytes, "plan", true) < 0)
            fail_msg("%s", error_text());
        char *again = text_of(&q, &again_bytes);
        assert_string_equal(text, again);
        assert_true(q.sealed);
        assert_int_equal(q.model.source_bytes, p.model.source_bytes);
        assert_memory_equal(q.model.source, p.model.source, p.model.source_bytes);
        assert_memory_equal(q.ranks, p.ranks, p.world * sizeof *p.ranks);
        assert_memory_equal(q.group_index, p.group_index, p.world * GROUP_KINDS * sizeof *p.group_index);
        plan_release(&p);
        plan_release(&q);
        free(text);
        free(again);
    }
    unlink(path);
}

/* Reads a damaged text; whatever it is, what is read must survive the check and being written. */
static bool survives(const char *text, size_t bytes)
{
    struct plan p;
    struct findings f;
    size_t out;
    char *exact = malloc(bytes ? bytes : 1); /* so that a sanitizer sees a read past its end */
    memcpy(exact, text, bytes);
    int r = plan_parse(&p, exact, bytes, "plan", false);
    free(exact);
    if (r < 0) {
        assert_true(*error_text());
        return false;
    }
    plan_check(&p, &f);
    findings_release(&f);
    plan_runnable(&p);
    free(text_of(&p, &out));
    char *json = NULL;
    FILE *mem = open_memstream(&json, &out);
    plan_write_json(&p, mem);
    fclose(mem);
    free(json);
    plan_release(&p);
    return true;
}

static void test_truncated(void **state)
{
    size_t bytes;
    struct plan p = made(small_request());
    char *text = text_of(&p, &bytes);
    size_t needed =
        (size_t)(strstr(text, " arena=") - text); /* what follows may be left out, as the sum may be */
    for (size_t n = 0; n < bytes; n++) {
        bool whole = survives(text, n);
        assert_false(whole && n < needed - 30); /* but for digits of the last figure */
        bool within = n && text[n - 1] != '\n';
        assert_true(whole || within == (strstr(error_text(), "ends within a line") != NULL));
    }
    free(text);
    plan_release(&p);
}

static void test_damaged(void **state)
{
    size_t bytes;
    struct plan p = made(small_request());
    char *text = text_of(&p, &bytes), *bad = malloc(bytes + 1);
    static const char likely[] = "0123456789-,.=| #\n%FBWx";
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        memcpy(bad, text, bytes + 1);
        /* the config's checksum would stop all that is changed in it, so mostly what follows */
        size_t from = i % 8 ? (size_t)(strstr(text, "\naxes ") - text) : 0;
        for (int k = 1 + (int)(next_random(&seed) % 3); k > 0; k--) {
            size_t at = from + next_random(&seed) % (bytes - from);
            bad[at] = i % 2 ? likely[next_random(&seed) % (sizeof likely - 1)] : (char)next_random(&seed);
        }
        survives(bad, bytes);
    }
    free(bad);
    free(text);
    plan_release(&p);
}

static void test_refused_text(void **state)
{
    static const struct {
        const char *from, *to, *words;
    } edits[] = {
        {"moe-plan 1", "moe-plan 2", "plan:1:10: version '2' of the format is not 1"},
        {"moe-plan 1", "a plan", "plan:1:1: not a plan"},
        {"bytes=", "bytes=9", "plan:3:8: bytes must be"},
        {"bytes=6", "bytes=5", "is longer than its 530 bytes"},
        {"bytes=6", "bytes=7", "the config ends before its 730 bytes"},
        {"\"hidden_size\": 128", "\"hidden_size\": 256", "the config's crc32 is"},
        {" hidden=128", " hidden=256", "'model' says hidden=256, the config 128"},
        {"family=mixtral", "family=olmoe", "'model' says family=olmoe"},
        {"world=4", "world=999999", "999999 ranks, but the plan has"},
        {"\nrank 1 ", "\nrank 0 ", "rank 0 is repeated"},
        {"\nrank 1 node=0 tp=1", "\nrank 1 node=0 tp=2", "tp must be a whole number from 0 to 1, not '2'"},
        {"\ngroup tp 0 0,1", "\ngroup tp 0 0,9", "must be a list of numbers up to 3: '9' is not"},
        {"\ngroup tp 0 0,1", "\ngroup tq 0 0,1", "cannot be 'tq'"},
        {"\ngroup tp 0 0,1", "\ngroup tp 0 0,1 2", "'2' is one value too many"},
        {"\nbatch seq=", "\nbatch seq=1 seq=", "key 'seq' is repeated"},
        {"\nbatch seq=", "\nbatch sequence=1 seq=", "'batch' has no key 'sequence'"},
        {"\nbatch ", "\nbatches ", "unknown record 'batches'"},
        {"\nstage 1", "\nstage 2", "stage 2, where 1 of 2 was expected"},
        {"\nschedule 0 F0", "\nschedule 0 G0", "'G0' is not an operation"},
        {"\nschedule 1", "\nschedule 0", "schedule 0 is repeated"},
        {"\nexpert layers=0-3", "\nexpert layers=0-4", "must be a list of numbers up to 3"},
        {"\nsum ", "\nrank 0\nsum ", "lacks 'node='"},
    };
    size_t bytes;
    struct plan p = made(small_request()), q;
    char *text = text_of(&p, &bytes);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char *bad = edit(text, edits[i].from, edits[i].to);
        if (plan_parse(&q, bad, strlen(bad), "plan", false) == 0)
            fail_msg("'%s' was read", edits[i].to);
        assert_int_equal(error_status(), STATUS_USAGE);
        if (!strstr(error_text(), edits[i].words))
            fail_msg("'%s' is not in: %s", edits[i].words, error_text());
        free(bad);
    }
    char *changed = edit(text, "lambda=1.5", "lambda=1.4");
    assert_int_equal(plan_parse(&q, changed, strlen(changed), "plan", true), -1);
    assert_non_null(strstr(error_text(), "moe-plan-check --seal"));
    free(changed);
    *strstr(text, "sum crc32") = '\0';
    assert_int_equal(plan_parse(&q, text, strlen(text), "plan", true), 0);
    assert_false(q.sealed);
    plan_release(&q);
    free(text);
    plan_release(&p);
}

/* Records whose kind begins with x- are somebody's own. */
static void test_own_records(void **state)
{
    size_t bytes;
    struct plan p = made(small_request()), q;
    char *text = text_of(&p, &bytes), *more = edit(text, "\nstage 0", "\nx-site rack=7 anything goes\nstage 0");
    assert_int_equal(plan_parse(&q, more, strlen(more), "plan", false), 0);
    assert_int_equal(q.world, p.world);
    plan_release(&q);
    plan_release(&p);
    free(more);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_truncated),   cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_refused_text), cmocka_unit_test(test_own_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

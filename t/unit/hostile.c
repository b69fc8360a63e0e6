/* SPDX-License-Identifier: MIT */
/* What fuzzing and reading the parsers with hostile eyes found: each of these once crashed, overflowed or
 * hung. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <unistd.h>

#include "base/bound.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "check/check.h"
#include "choose/make.h"
#include "ckpt/mark.h"
#include "ckpt/sums.h"
#include "model/config.h"
#include "plan/text.h"
#include "stat/loads.h"
#include "train/recipe.h"

/* ---- plans ---- */

/* The text of a plan for four ranks. */
static char *plan_text(void)
{
    const struct request r = {.model = "moe-tiny",
                              .world = 4,
                              .axes = {.ep = 2, .pp = 2, .vpp = 2},
                              .batch = {.global = 8},
                              .zero = -1};
    struct plan p;
    char *text;
    size_t bytes;
    if (plan_make(&p, &r) < 0)
        fail_msg("%s", error_text());
    FILE *f = open_memstream(&text, &bytes);
    assert_int_equal(plan_write(&p, f), 0);
    fclose(f);
    plan_release(&p);
    return text;
}

/* What begins at `from`, to the blank or newline that ends it, becomes `to`. */
static void edit(char **text, const char *from, const char *to)
{
    char *at = strstr(*text, from);
    if (!at)
        fail_msg("there is no '%s'", from);
    char *edited = xasprintf("%.*s%s%s", (int)(at - *text), *text, to, at + strcspn(at, " \n"));
    free(*text);
    *text = edited;
}

/* The text's verdict by one rule, for the caller to free; NULL when it passes. Frees the text. */
static char *finding_of(char *text, const char *rule)
{
    struct plan p;
    struct findings found;
    char *says = NULL;
    if (plan_parse(&p, text, strlen(text), "plan", false) < 0)
        fail_msg("%s", error_text());
    plan_check(&p, &found);
    for (int i = 0; i < found.count; i++)
        if (found.list[i].verdict == VERDICT_FAIL && strcmp(found.list[i].rule, rule) == 0)
            says = xstrdup(found.list[i].text);
    findings_release(&found);
    plan_release(&p);
    free(text);
    return says;
}

static void assert_says(char *says, const char *wanted)
{
    if (!says || !strstr(says, wanted))
        fail_msg("'%s', not '%s'", says ? says : "nothing", wanted);
    free(says);
}

/* The advice, 2^24 · 2^20 · 2^20 sequences, is none. */
static void advice_overflows(void **state)
{
    char *text = plan_text();
    edit(&text, "dp=", "dp=1048576");
    edit(&text, "micro=", "micro=1048576");
    edit(&text, "microbatches=", "microbatches=16777215");
    char *says = finding_of(text, "schedule-fits");
    assert_non_null(says);
    assert_null(strstr(says, "global batch"));
    assert_says(says, "16777215 microbatches are not divisible by pp 2");
}

/* The neighbours of 2 among the divisors of a prime. */
static void divisors_take_long(void **state)
{
    char *text = plan_text();
    edit(&text, "cp=", "cp=2");
    edit(&text, "seq=", "seq=1073741789");
    clock_t begin = clock();
    assert_says(finding_of(text, "tokens-divide"), "cp 1 or 1073741789 would do");
    assert_true(clock() - begin < CLOCKS_PER_SEC);
}

/* More rows than positions, of 32 bits, can number. */
static void memory_overflows(void **state)
{
    char *text = plan_text();
    edit(&text, "seq=", "seq=1073741824");
    edit(&text, "lambda=", "lambda=1000000");
    assert_says(finding_of(text, "predict-matches"), "too large for any memory");
}

/* A few bytes place every expert: a short text could do so for hours. */
static void experts_again_and_again(void **state)
{
    struct plan p;
    char *text = plan_text(), *line = strstr(text, "\nexpert ");
    int length = (int)strcspn(line + 1, "\n") + 1;
    char *hostile = xasprintf("%.*s", (int)(line - text), text);
    for (int i = 0; i < 8; i++) {
        char *longer = xasprintf("%s%.*s%s", hostile, length, line, i == 7 ? line : "");
        free(hostile);
        hostile = longer;
    }
    assert_int_equal(plan_parse(&p, hostile, strlen(hostile), "plan", false), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    assert_non_null(strstr(error_text(), "more than 4 times over"));
    free(hostile);
    free(text);
}

/* ---- JSON ---- */

/* Accepted, it went verbatim into a plan that could not be read again. */
static void nul_in_config(void **state)
{
    static const char text[] = "{\"model_type\": \"mixtral\",\n \"num_hidden_layers\": 3\0}";
    struct model m;
    assert_int_equal(model_parse(&m, text, sizeof text - 1, "c.json"), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    assert_string_equal(error_text(), "c.json:2:24: a NUL byte: this is no text");
}

/* ---- step logs ---- */

/* A start record that changes the number of experts, after loads of the old shape: these were read beyond their
 * end. */
static void loads_of_another_shape(void **state)
{
    char path[] = "/tmp/hostile-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "{\"kind\": \"step\", \"step\": 1, \"expert_load\": [[1, 2], [3, 4]]}\n"
                               "{\"kind\": \"start\", \"experts\": 1000000}\n";
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    struct steplog log;
    struct loads loads;
    steplog_init(&log);
    assert_int_equal(steplog_read(&log, (char *[]){path}, 1, 2), 0);
    assert_int_equal(loads_read(&loads, &log, 2), 0);
    unlink(path);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.skipped_lines, 0);
    assert_null(loads.sum);
    loads_release(&loads);
    steplog_release(&log);
}

/* ---- checkpoints ---- */

static char *new_dir(void)
{
    char *path = xstrdup("/tmp/hostile-XXXXXX");
    if (!mkdtemp(path))
        fail_msg("cannot make '%s'", path);
    return path;
}

/* Fewer sums in the manifest than the tensor has ranges: others were read behind the end of the table. */
static void too_few_ranges(void **state)
{
    static const char header[] = "{\"t\":{\"dtype\":\"U8\",\"shape\":[64],\"data_offsets\":[0,64]}}";
    unsigned char file[8 + sizeof header - 1 + 64] = {sizeof header - 1};
    char *dir = new_dir();
    memcpy(file + 8, header, sizeof header - 1);
    struct manifest m = {.range = 8}, parts = {0};
    assert_int_equal(manifest_put(&parts, dir, "f.safetensors", (const char *)file, sizeof file), 0);
    struct manifest_file *f = manifest_add(&m, xstrdup("f.safetensors"), sizeof file, parts.files[0].crc32);
    f->tensors = xcalloc(1, sizeof *f->tensors);
    f->count = 1;
    f->tensors[0] = (struct manifest_tensor){.name = xstrdup("t"), .crc32 = 0x758d6336, .range_count = 2};
    f->tensors[0].ranges = xcalloc(2, sizeof *f->tensors[0].ranges);
    struct problems p = {0};
    sums_verify(&p, &m, dir);
    assert_int_not_equal(p.count, 0);
    assert_non_null(strstr(p.list[0], "tensor 't': its ranges in the manifest do not make it"));
    for (int i = 1; i < p.count; i++)
        assert_null(strstr(p.list[i], "tensor 't'")); /* whose bytes are right */
    problems_release(&p);
    manifest_release(&m);
    manifest_release(&parts);
    remove_tree(dir);
    free(dir);
}

/* A job's name that JSON makes six times as long: its mark was cut, and what lay behind it written too. */
static void long_mark(void **state)
{
    char job[64], *dir = new_dir();
    memset(job, 1, sizeof job - 1);
    job[sizeof job - 1] = '\0';
    setenv("SLURM_JOB_ID", job, 1);
    struct mark *m = mark_take(dir, "0123456789abcdef", NULL);
    if (!m)
        fail_msg("%s", error_text());
    unsetenv("SLURM_JOB_ID");
    assert_int_equal(mark_check(m), 0);
    mark_release(m);
    remove_tree(dir);
    free(dir);
}

/* ---- bounds ---- */

/* The exponent of the last digit overflowed, and then any number was within half a digit. */
static void digits_overflow(void **state)
{
    struct bound b;
    const char *at;
    assert_non_null(bound_parse(&b, "= 0.0e-2147483648", UNIT_NUMBER, &at));
    assert_true(bound_holds(&b, 0));
    assert_false(bound_holds(&b, 1));
}

/* ---- recipes ---- */

/* A beta of 1 divides by 0 in the update; options refuse it, and so must a recipe that was stored. */
static void recipe_out_of_range(void **state)
{
    static const struct {
        const char *text;
        int want;
    } cases[] = {
        {"{\"recipe\": {\"beta1\": 0.9, \"beta2\": 0.95}}", 0},
        {"{\"recipe\": {\"beta1\": 1}}", -1},
        {"{\"recipe\": {\"beta2\": 1.0}}", -1},
        {"{\"recipe\": {\"beta1\": -0.1}}", -1},
        {"{\"recipe\": {\"beta2\": 1e300}}", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct recipe r = recipe_defaults;
        struct json_doc d;
        assert_int_equal(json_open(&d, cases[i].text, strlen(cases[i].text), "state.json"), 0);
        assert_int_equal(recipe_restore(&r, &d), cases[i].want);
        if (cases[i].want < 0)
            assert_int_equal(error_status(), STATUS_USAGE);
        json_close(&d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(advice_overflows), cmocka_unit_test(divisors_take_long),
        cmocka_unit_test(memory_overflows), cmocka_unit_test(experts_again_and_again),
        cmocka_unit_test(nul_in_config),    cmocka_unit_test(loads_of_another_shape),
        cmocka_unit_test(too_few_ranges),   cmocka_unit_test(long_mark),
        cmocka_unit_test(digits_overflow),  cmocka_unit_test(recipe_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* What a file says it needs of its reader. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/format.h"

static const struct format third = {.key = "moekit", .version = 3, .features = {"runs", "range-sums"}};

static void accepted(void **state)
{
    static const char *const texts[] = {
        "{}",
        "{\"moekit\": 1}",
        "{\"moekit\": 3, \"later\": {\"x\": [1]}}",
        "{\"moekit\": 3, \"needs\": []}",
        "{\"needs\": [\"runs\"]}",
        "{\"moekit\": 2, \"needs\": [\"range-sums\", \"runs\"]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct json_doc d;
        assert_int_equal(json_open(&d, texts[i], strlen(texts[i]), "f"), 0);
        assert_int_equal(format_check(&third, &d), 0);
        json_close(&d);
    }
}

static void refused(void **state)
{
    static const char newer[] = ": a newer moekit is needed";
    static const struct {
        const char *text, *says, *ends;
    } cases[] = {
        {"{\"moekit\": 4}", "f:1:2: key 'moekit' is 4, and moekit " VERSION " reads up to 3", newer},
        {"{\n\"moekit\": 9223372036854775807}", "f:2:1: key 'moekit' is 9223372036854775807, ", newer},
        {"{\"moekit\": 0}", "f:1:2: key 'moekit' is not a version", ""},
        {"{\"moekit\": -1}", "f:1:2: key 'moekit' is not a version", ""},
        {"{\"moekit\": 1.0}", "f:1:2: key 'moekit' is not a version", ""},
        {"{\"moekit\": \"1\"}", "f:1:2: key 'moekit' is not a version", ""},
        {"{\"moekit\": null}", "f:1:2: key 'moekit' is not a version", ""},
        {"{\"needs\": [\"runs\", \"run\"]}", "f:1:2: key 'needs' names 'run', which moekit " VERSION, newer},
        {"{\"needs\": \"runs\"}", "f:1:2: key 'needs' is not a list", ""},
        {"{\"needs\": [1]}", "f:1:2: key 'needs' holds what is not the name of a feature", ""},
        {"{\"needs\": [\"\"]}", "f:1:2: key 'needs' holds what is not the name of a feature", ""},
        {"{\"needs\": [\"\\u001b[2J\"]}", "f:1:2: key 'needs' holds what is not the name of a feature", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_doc d;
        assert_int_equal(json_open(&d, cases[i].text, strlen(cases[i].text), "f"), 0);
        assert_int_equal(format_check(&third, &d), -1);
        assert_int_equal(error_status(), STATUS_USAGE);
        size_t n = strlen(error_text()), end = strlen(cases[i].ends);
        if (strncmp(error_text(), cases[i].says, strlen(cases[i].says)) != 0 || n < end ||
            strcmp(error_text() + n - end, cases[i].ends) != 0)
            fail_msg("%s: %s", cases[i].text, error_text());
        json_close(&d);
    }
}

/* The name of a feature may be as long as a line. */
static void long_name(void **state)
{
    char text[1000];
    struct json_doc d;
    snprintf(text, sizeof text, "{\"needs\": [\"%0900d\"]}", 0);
    assert_int_equal(json_open(&d, text, strlen(text), "f"), 0);
    assert_int_equal(format_check(&third, &d), -1);
    assert_non_null(strstr(error_text(), "a newer moekit is needed"));
    json_close(&d);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepted),
        cmocka_unit_test(refused),
        cmocka_unit_test(long_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

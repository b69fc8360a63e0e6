/* SPDX-License-Identifier: MIT */
/* Number lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/ranges.h"

static void number_lists(void **state)
{
    static const struct {
        const char *text, *printed; /* NULL: refused */
    } cases[] = {
        {"0-3,5", "0-3,5"},
        {"7", "7"},
        {"5,4,3", "5,4,3"},
        {"1,2", "1-2"},
        {"0-3,4-7", "0-7"},
        {"9,0-1", "9,0-1"},
        {"", NULL},
        {"1,", NULL},
        {",1", NULL},
        {"1,,2", NULL},
        {"3-1", NULL},
        {"1-", NULL},
        {"-1", NULL},
        {"1 ", NULL},
        {"1;2", NULL},
        {"16", NULL},
        {"0-16", NULL},
        {"1,1", NULL},
        {"0-3,2", NULL},
        {"+1", NULL},
        {"0x1", NULL},
        {"1-2-3", NULL},
        {"99999999999999999999", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int *values, n = ranges_parse(cases[i].text, 0, 15, "rank", &values);
        if (n < 0 ? cases[i].printed != NULL : !cases[i].printed)
            fail_msg("'%s': %d", cases[i].text, n);
        if (n < 0) {
            assert_int_equal(error_status(), STATUS_USAGE);
            assert_null(values);
            continue;
        }
        char *text = ranges_text(values, n);
        assert_string_equal(text, cases[i].printed);
        free(text);
        free(values);
    }
    int *values;
    assert_int_equal(ranges_parse("0-2000000000", 0, INT32_MAX, "rank", &values), -1);
    assert_int_equal(ranges_parse("2147483646-2147483647", 0, INT32_MAX, "rank", &values), 2);
    assert_int_equal(values[1], INT32_MAX);
    free(values);
    char *none = ranges_text(NULL, 0);
    assert_string_equal(none, "");
    free(none);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    const struct CMUnitTest tests[] = {cmocka_unit_test(number_lists)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

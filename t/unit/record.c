/* SPDX-License-Identifier: MIT */
/* Text records. */
#include <unistd.h>

#include "base/record.h"
#include "lib/unit.h"

static void test_records(void **state)
{
    char text[] = "  # only a comment\n\nkind 3 key=a%20b list=7,2-4 n=1e3 # rest=1\nnext -\n";
    struct records r;
    int64_t v;
    char word[8];
    double x;
    int *list, count;
    assert_int_equal(records_open(&r, text, sizeof text - 1, "f"), 0);
    assert_int_equal(record_next(&r), 1);
    assert_string_equal(r.kind, "kind");
    assert_int_equal(r.line, 3);
    assert_int_equal(record_int(&r, NULL, 0, 9, &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(record_text(&r, "key", word, sizeof word), 0);
    assert_string_equal(word, "a b");
    assert_int_equal(record_num(&r, "n", 0, 1e4, &x), 0);
    assert_true(x == 1000);
    assert_int_equal(record_end(&r), -1);
    assert_string_equal(error_text(), "f:3:18: 'kind' has no key 'list'");
    assert_int_equal(record_list(&r, "list", 9, 3, &list, &count), -1);
    assert_int_equal(record_list(&r, "list", 9, 4, &list, &count), 0);
    assert_int_equal(count, 4);
    assert_int_equal(list[0] * 1000 + list[1] * 100 + list[2] * 10 + list[3], 7234);
    free(list);
    assert_int_equal(record_end(&r), 0);
    assert_int_equal(record_next(&r), 1);
    assert_int_equal(record_list(&r, NULL, 9, 4, &list, &count), 0);
    assert_int_equal(count, 0);
    free(list);
    assert_int_equal(record_next(&r), 0);
    records_close(&r);
    char nul[] = "a\nb\0c";
    assert_int_equal(records_open(&r, nul, 5, "f"), -1);
    assert_non_null(strstr(error_text(), "f:2:1: a NUL byte"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* Token streams: order, blends, positions. */
#include "data/shuffle.h"
#include "lib/tokens.h"

/* ---- order ---- */

static void permutations(void **state)
{
    enum { MOST = 200 };
    for (int64_t n = 1; n <= MOST; n++)
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            bool seen[MOST] = {false};
            for (int64_t i = 0; i < n; i++) {
                int64_t to = shuffle_at(shuffle_key(7, 1, epoch), n, i);
                assert_in_range(to, 0, n - 1);
                assert_false(seen[to]);
                seen[to] = true;
            }
        }
    int64_t n = 1000003;
    char *seen = calloc((size_t)n, 1);
    assert_non_null(seen);
    for (int64_t i = 0; i < n; i++) {
        int64_t to = shuffle_at(42, n, i);
        assert_in_range(to, 0, n - 1);
        assert_int_equal(seen[to]++, 0);
    }
    free(seen);
    static const int64_t big[] = {(int64_t)1 << 40, ((int64_t)1 << 40) + 1, INT64_MAX};
    for (int k = 0; k < 3; k++)
        for (int64_t i = 0; i < 1000; i++) {
            assert_in_range(shuffle_at(9, big[k], i), 0, big[k] - 1);
            assert_in_range(shuffle_at(9, big[k], big[k] - 1 - i), 0, big[k] - 1);
        }
}

/* Known values: the order of a run must not change from one version to the next, nor between machines. */
static void permutation_is_fixed(void **state)
{
    assert_true(shuffle_key(1234, 0, 0) == 0x52b6d2127195ace2u);
    static const int expected[10] = {9, 2, 6, 0, 4, 5, 1, 7, 8, 3};
    for (int i = 0; i < 10; i++)
        assert_int_equal(shuffle_at(shuffle_key(1234, 0, 0), 10, i), expected[i]);
}

/* 5 samples an epoch: each once in every epoch, in another order. */
static void epochs(void **state)
{
    int32_t token[40 * 5];
    write_tokens("e", 4, 24); /* three tokens that make no sample */
    struct index x = make_index(4, 4, 1, (int32_t[]){24});
    write_index("e", &x);
    struct data *d = must_open(in_dir("e", ""), 4, 3, true);
    assert_int_equal(data_next(d, 40, NULL, token), 0);
    int orders = 0;
    for (int epoch = 0; epoch < 8; epoch++) {
        int seen = 0;
        bool same = true;
        for (int k = 0; k < 5; k++) {
            const int32_t *s = token + (epoch * 5 + k) * 5;
            assert_int_equal(s[0] % 4, 0);
            assert_in_range(s[0], 0, 16);
            for (int i = 1; i < 5; i++)
                assert_int_equal(s[i], s[0] + i);
            seen |= 1 << s[0] / 4;
            same &= s[0] == token[k * 5];
        }
        assert_int_equal(seen, 31);
        orders += !same;
    }
    assert_in_range(orders, 4, 7);
    data_close(d);
}

/* ---- blends and positions ---- */

static char *blend_spec(void)
{
    static char spec[512];
    char text[3][64];
    for (int i = 0; i < 3; i++) {
        memset(text[i], 'a' + i, 64);
        char name[] = {'m', (char)('0' + i), '\0'};
        write_file(in_dir(name, ".txt"), text[i], (size_t)(25 + 8 * i));
    }
    snprintf(spec, sizeof spec, "2:%s/m0.txt 5:%s/m1.txt 3:%s/m2.txt", dir, dir, dir);
    return spec;
}

static void blend_shares(void **state)
{
    struct data *d = must_open(blend_spec(), 4, 1, true);
    int32_t token[5];
    int64_t given[3], count[3] = {0};
    static const double share[] = {0.2, 0.5, 0.3};
    for (int n = 1; n <= 1000; n++) {
        assert_int_equal(data_next(d, 1, NULL, token), 0);
        count[token[0] - 'a']++;
        data_tell(d, given);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(given[i], count[i]);
            assert_true((double)given[i] > share[i] * n - 1 && (double)given[i] < share[i] * n + 1);
        }
    }
    assert_int_equal(given[0], 200);
    assert_int_equal(given[1], 500);
    data_close(d);

    /* By hand: 1:1 takes turns, the first source first. */
    char spec[256];
    snprintf(spec, sizeof spec, "1:%s/m0.txt  1:%s/m1.txt ", dir, dir);
    d = must_open(spec, 4, 1, false);
    int32_t six[6 * 5];
    assert_int_equal(data_next(d, 6, NULL, six), 0);
    for (int k = 0; k < 6; k++)
        assert_int_equal(six[5 * k], 'a' + k % 2);
    data_close(d);

    /* Without weights all sources end an epoch together: 6 and 8 samples. */
    snprintf(spec, sizeof spec, "%s/m0.txt %s/m1.txt", dir, dir);
    d = must_open(spec, 4, 1, false);
    assert_int_equal(data_next(d, 14, (bool[14]){false}, NULL), 0);
    data_tell(d, given);
    assert_int_equal(given[0], 6);
    assert_int_equal(given[1], 8);
    data_close(d);

    snprintf(spec, sizeof spec, "0:%s/m0.txt 1:%s/m1.txt", dir, dir);
    d = must_open(spec, 4, 1, false);
    assert_int_equal(data_next(d, 50, (bool[50]){false}, NULL), 0);
    data_tell(d, given);
    assert_int_equal(given[0], 0);
    data_close(d);
}

static void seek_resumes(void **state)
{
    enum { ALL = 97, S1 = 5 };
    static int32_t whole[ALL * S1], part[ALL * S1];
    struct data *d = must_open(blend_spec(), 4, 5, true);
    int64_t given[3];
    assert_int_equal(data_next(d, ALL, NULL, whole), 0);
    data_close(d);
    for (int stop = 0; stop < ALL; stop += 8) {
        struct data *a = must_open(blend_spec(), 4, 5, true), *b = must_open(blend_spec(), 4, 5, true);
        assert_int_equal(data_next(a, stop, NULL, part), 0);
        data_tell(a, given);
        assert_int_equal(data_seek(b, given, 3), 0);
        assert_int_equal(data_next(b, ALL - stop, NULL, part + stop * S1), 0);
        assert_memory_equal(part, whole, sizeof whole);
        data_close(a);
        data_close(b);
    }
    d = must_open(blend_spec(), 4, 5, true);
    assert_int_equal(data_seek(d, given, 2), -1);
    assert_int_equal(data_seek(d, (int64_t[]){1, -1, 1}, 3), -1);
    assert_int_equal(data_seek(d, (int64_t[]){INT64_MAX, INT64_MAX, 1}, 3), -1);
    data_close(d);
}

/* Ranks that take turns read what one rank reads. */
static void masks(void **state)
{
    enum { ALL = 60, S1 = 5 };
    static int32_t whole[ALL * S1], part[ALL * S1];
    bool want[ALL];
    struct data *d = must_open(blend_spec(), 4, 5, true);
    assert_int_equal(data_next(d, ALL, NULL, whole), 0);
    data_close(d);
    for (int ranks = 2; ranks <= 7; ranks++)
        for (int rank = 0; rank < ranks; rank++) {
            int wanted = 0;
            for (int k = 0; k < ALL; k++)
                want[k] = k * 7 / 3 % ranks == rank;
            d = must_open(blend_spec(), 4, 5, true);
            assert_int_equal(data_next(d, 20, want, part), 0);
            for (int k = 0; k < 20; k++)
                wanted += want[k];
            assert_int_equal(data_next(d, 40, want + 20, part + wanted * S1), 0);
            wanted = 0;
            for (int k = 0; k < ALL; k++)
                if (want[k])
                    assert_memory_equal(part + wanted++ * S1, whole + k * S1, S1 * sizeof *whole);
            data_close(d);
        }
}

static void identities(void **state)
{
    char *spec = blend_spec();
    struct data *d = must_open(spec, 4, 5, true);
    uint32_t first = data_identity(d);
    data_close(d);
    d = must_open(spec, 4, 5, true);
    assert_int_equal(data_identity(d), first);
    data_close(d);
    d = must_open(spec, 4, 6, true);
    assert_int_not_equal(data_identity(d), first);
    data_close(d);
    d = must_open(spec, 5, 5, true);
    assert_int_not_equal(data_identity(d), first);
    data_close(d);
    spec[0] = '3';
    d = must_open(spec, 4, 5, true);
    assert_int_not_equal(data_identity(d), first);
    data_close(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(permutations), cmocka_unit_test(permutation_is_fixed), cmocka_unit_test(epochs),
        cmocka_unit_test(blend_shares), cmocka_unit_test(seek_resumes),         cmocka_unit_test(masks),
        cmocka_unit_test(identities),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

/* SPDX-License-Identifier: MIT */
/* Token files: every dtype, scattered sequences, damaged indices. */
#include "lib/tokens.h"

/* ---- types ---- */

/* 21 tokens in three sequences, read back in order as 5 samples of 4. */
static void expect_counting(const char *name)
{
    int32_t token[5 * 5];
    struct data *d = must_open(name, 4, 1, false);
    assert_int_equal(data_tokens(d), 21);
    assert_int_equal(data_sources(d), 1);
    assert_int_equal(data_next(d, 5, NULL, token), 0);
    for (int i = 0; i < 25; i++)
        assert_int_equal(token[i], i / 5 * 4 + i % 5);
    data_close(d);
}

static const int32_t three[] = {7, 1, 13};

static void all_dtypes(void **state)
{
    static const int item[] = {0, 1, 1, 2, 4, 8, 0, 4, 2};
    for (int code = 1; code <= 8; code++) {
        if (!item[code])
            continue;
        struct index x = make_index(code, item[code], 3, three);
        write_index("t", &x);
        write_tokens("t", item[code], 21);
        expect_counting(in_dir("t", ""));
        expect_counting(in_dir("t", ".bin"));
        expect_counting(in_dir("t", ".idx"));
        x.modes = 3;
        write_index("t", &x);
        expect_counting(in_dir("t", ""));
    }
}

static void deepspeed_dtypes(void **state)
{
    static const int item[] = {2, 4, 8};
    for (int code = 6; code <= 8; code++) {
        struct index x = make_index(code, item[code - 6], 3, three);
        write_index("ds", &x);
        write_tokens("ds", item[code - 6], 21);
        expect_counting(in_dir("ds", ""));
        /* A .bin that is longer than what is used: the offsets tell. */
        write_tokens("ds", item[code - 6], 100);
        expect_counting(in_dir("ds", ""));
    }
    /* f64 is never a token. */
    struct index x = make_index(6, 8, 3, three);
    write_index("ds", &x);
    write_tokens("ds", 8, 21);
    assert_fails(in_dir("ds", ""), "f64", "ds.idx");
    /* One sequence in a .bin that is large enough for either. */
    x = make_index(8, 2, 1, (int32_t[]){21});
    write_index("ds", &x);
    write_tokens("ds", 8, 30);
    assert_fails(in_dir("ds", ""), "does not tell", "ds.idx");
    /* Only u16 fits. */
    write_tokens("ds", 2, 30);
    expect_counting(in_dir("ds", ""));
}

static void text_is_bytes(void **state)
{
    const char *text = "The quick brown fox \xff\x01";
    int32_t token[12];
    write_file(in_dir("plain", ".txt"), text, strlen(text));
    struct data *d = must_open(in_dir("plain", ".txt"), 5, 1, false);
    assert_int_equal(data_tokens(d), 22);
    assert_string_equal(strrchr(data_name(d, 0), '/'), "/plain.txt");
    assert_int_equal(data_next(d, 2, NULL, token), 0);
    for (int i = 0; i < 12; i++)
        assert_int_equal(token[i], (unsigned char)text[i / 6 * 5 + i % 6]);
    data_close(d);
}

/* The stream follows the index, not the .bin: sequences stored backwards, empty ones between. */
static void scattered_sequences(void **state)
{
    struct index x = make_index(4, 4, 6, (int32_t[]){0, 7, 0, 0, 1, 13});
    unsigned char bin[4 * 64];
    int32_t at = 60;
    for (int i = 0, token = 0; i < 6; i++) {
        at -= x.length[i] + 1; /* a gap after each */
        x.offset[i] = 4 * at;
        for (int k = 0; k < x.length[i]; k++, token++)
            memcpy(bin + 4 * (at + k), &token, 4);
    }
    write_index("scattered", &x);
    write_file(in_dir("scattered", ".bin"), bin, sizeof bin);
    expect_counting(in_dir("scattered", ""));
}

static void tokens_outside_vocabulary(void **state)
{
    int32_t token[64];
    struct index x = make_index(4, 4, 1, (int32_t[]){21});
    int32_t bad[21] = {0};
    write_index("v", &x);
    for (int k = 0; k < 2; k++) {
        bad[17] = k ? -5 : 1000;
        write_file(in_dir("v", ".bin"), bad, sizeof bad);
        struct data *d = must_open(in_dir("v", ""), 4, 1, false);
        int64_t given;
        assert_int_equal(data_next(d, 4, NULL, token), 0);
        assert_int_equal(data_next(d, 1, NULL, token), -1);
        assert_non_null(strstr(error_text(), "v.bin"));
        assert_non_null(strstr(error_text(), "index 17"));
        assert_non_null(strstr(error_text(), k ? "token -5" : "token 1000"));
        data_tell(d, &given);
        assert_int_equal(given, 4); /* as before the call that failed */
        data_close(d);
    }
    x = make_index(5, 8, 3, three);
    int64_t wide[21] = {[3] = (int64_t)1 << 32};
    write_index("v", &x);
    write_file(in_dir("v", ".bin"), wide, sizeof wide);
    struct data *d = must_open(in_dir("v", ""), 4, 1, false);
    assert_int_equal(data_next(d, 1, NULL, token), -1);
    assert_non_null(strstr(error_text(), "token 4294967296 at index 3"));
    data_close(d);
}

/* ---- damage ---- */

static void bad_index(const struct index *x, const char *part)
{
    write_index("bad", x);
    assert_fails(in_dir("bad", ""), part, "bad.idx");
}

static void damaged_head(void **state)
{
    struct index x, good = make_index(4, 4, 3, three);
    write_tokens("bad", 4, 21);
    write_index("bad", &good);
    expect_counting(in_dir("bad", ""));

    x = good, x.magic[3] = 'x';
    bad_index(&x, "not a Megatron index");
    x = good, x.magic[8] = 'x';
    bad_index(&x, "not a Megatron index");
    x = good, x.version = 2;
    bad_index(&x, "version 2");
    x = good, x.dtype = 9;
    bad_index(&x, "dtype code 9");
    x = good, x.dtype = 0;
    bad_index(&x, "dtype code 0");
    int whole = 34 + 3 * 4 + 3 * 8 + 4 * 8;
    for (int cut = 1; cut <= whole; cut++) {
        x = good, x.cut = cut;
        bad_index(&x, "truncated");
    }
    for (int extra = 1; extra < 9; extra++) {
        x = good, x.extra = extra;
        if (extra != 3) /* which are modes */
            bad_index(&x, "after the end");
    }
    static const uint64_t huge[] = {1000,
                                    1u << 31,
                                    (uint64_t)1 << 60,
                                    (uint64_t)1 << 61,
                                    (uint64_t)1 << 63,
                                    UINT64_MAX,
                                    UINT64_MAX / 12 + 1,
                                    UINT64_MAX / 8 + 1};
    for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
        x = good, x.sequences = huge[i];
        bad_index(&x, "truncated");
        x = good, x.documents = huge[i];
        bad_index(&x, "truncated");
        x.sequences = huge[i];
        bad_index(&x, "truncated");
    }
}

static void damaged_tables(void **state)
{
    struct index x, good = make_index(4, 4, 3, three);
    write_tokens("bad", 4, 21);
    x = good, x.length[1] = -1;
    bad_index(&x, "sequence 1 has the length -1");
    x = good, x.length[1] = INT32_MIN;
    bad_index(&x, "sequence 1 has the length");
    x = good, x.length[2] = 14;
    bad_index(&x, "outside");
    x = good, x.length[0] = INT32_MAX;
    bad_index(&x, "outside");
    x = good, x.offset[2] = 36;
    bad_index(&x, "outside");
    x = good, x.offset[2] = 30;
    bad_index(&x, "not a multiple of 4");
    static const int64_t far[] = {-4, -1, INT64_MIN, INT64_MAX, INT64_MAX - 3, INT64_MAX - 51, 84, 1 << 30};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++)
        for (int k = 0; k < 3; k++) {
            x = good, x.offset[k] = far[i];
            write_index("bad", &x);
            assert_fails(in_dir("bad", ""), "bad.idx", far[i] % 4 && far[i] > 0 ? "not a multiple" : "outside");
        }
    x = good, x.doc[0] = 1;
    bad_index(&x, "first document index");
    x = good, x.doc[3] = 2;
    bad_index(&x, "last document index");
    x = good, x.doc[3] = 4;
    bad_index(&x, "document index 3 is 4");
    x = good, x.doc[2] = -1;
    bad_index(&x, "document index 2 is -1");
    x = good, x.doc[1] = 3;
    bad_index(&x, "document index 2 is 2");
    x = good, x.documents = 0;
    bad_index(&x, "document");
    x = make_index(4, 4, 0, three);
    write_index("bad", &x);
    assert_fails(in_dir("bad", ""), "too few", "bad.bin");
}

static void damaged_bin(void **state)
{
    struct index x = make_index(4, 4, 3, three);
    write_index("bad", &x);
    write_file(in_dir("bad", ".bin"), dir, 0);
    assert_fails(in_dir("bad", ""), "has 0 bytes", "bad.bin");
    /* A .bin cut short is told as such, whatever the dialect. */
    for (int code = 6; code <= 8; code++) {
        x = make_index(code, 2 << (code - 6), 3, three);
        write_index("bad", &x);
        write_tokens("bad", 1, 41);
        assert_fails(in_dir("bad", ""), "outside", "bad.idx");
    }
    unlink(in_dir("bad", ".bin"));
    assert_fails(in_dir("bad", ""), "cannot open", "bad.bin");
    write_tokens("bad", 2, 21);
    unlink(in_dir("bad", ".idx"));
    assert_fails(in_dir("bad", ""), "cannot open", "bad.idx");

    /* It shrinks after it was opened. */
    x = make_index(3, 2, 3, three);
    write_index("bad", &x);
    struct data *d = must_open(in_dir("bad", ""), 4, 1, false);
    int32_t token[64];
    assert_int_equal(truncate(in_dir("bad", ".bin"), 20), 0);
    assert_int_equal(data_next(d, 2, NULL, token), 0);
    assert_int_equal(data_next(d, 2, NULL, token), -1);
    assert_non_null(strstr(error_text(), "bad.bin"));
    data_close(d);
}

static void bad_specs(void **state)
{
    char spec[512];
    write_file(in_dir("short", ".txt"), "1234", 4);
    write_file(in_dir("long", ".txt"), "12345", 5);
    assert_fails("", "no data", "");
    assert_fails("  ", "no data", "");
    assert_fails("0.5:", "no file", "0.5:");
    assert_fails("/nowhere/x", "no data", "/nowhere/x");
    assert_fails(dir, "not a regular file", dir);
    assert_fails(in_dir("short", ".txt"), "too few", "short.txt");
    snprintf(spec, sizeof spec, "0.5:%s %s", in_dir("long", ".txt"), in_dir("long", ".txt"));
    assert_fails(spec, "either all", "");
    snprintf(spec, sizeof spec, "-1:%s", in_dir("long", ".txt"));
    assert_fails(spec, "weight", "long.txt");
    snprintf(spec, sizeof spec, "inf:%s", in_dir("long", ".txt"));
    assert_fails(spec, "weight", "long.txt");
    snprintf(spec, sizeof spec, "0:%s", in_dir("long", ".txt"));
    assert_fails(spec, "add up to 0", "");
    assert_null(data_open(in_dir("long", ".txt"), 0, 10, 0, false));
    assert_null(data_open(in_dir("long", ".txt"), INT64_MAX, 10, 0, false));
    assert_null(data_open(in_dir("long", ".txt"), 4, INT64_MAX, 0, false));
    data_close(must_open(in_dir("long", ".txt"), 4, 0, false));
    data_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_dtypes),
        cmocka_unit_test(deepspeed_dtypes),
        cmocka_unit_test(text_is_bytes),
        cmocka_unit_test(scattered_sequences),
        cmocka_unit_test(tokens_outside_vocabulary),
        cmocka_unit_test(damaged_head),
        cmocka_unit_test(damaged_tables),
        cmocka_unit_test(damaged_bin),
        cmocka_unit_test(bad_specs),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

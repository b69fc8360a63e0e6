/* SPDX-License-Identifier: MIT */
/* Token streams: every dtype, damaged indices, order, blends, positions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/num.h"
#include "data/data.h"
#include "data/shuffle.h"

static char dir[] = "/tmp/moekit-data-XXXXXX";

/* ---- files ---- */

static char *in_dir(const char *name, const char *ending)
{
    static char path[4][256]; /* a few at a time */
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s%s", dir, name, ending);
    return path[turn];
}

static void write_file(const char *path, const void *p, size_t bytes)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, bytes, f), bytes);
    assert_int_equal(fclose(f), 0);
}

/* An .idx as Megatron writes it, to be bent by a test before it is written. */
struct index {
    char magic[9];
    uint64_t version;
    unsigned char dtype;
    uint64_t sequences, documents;
    int32_t length[64];
    int64_t offset[64], doc[64];
    int modes, extra, cut; /* bytes more after the tables; bytes less at the end */
};

/* `count` sequences of these lengths back to back, one a document. */
static struct index make_index(int dtype, int item, int count, const int32_t *length)
{
    struct index x = {
        .magic = "MMIDIDX\0", .version = 1, .dtype = (unsigned char)dtype, .sequences = (uint64_t)count};
    int64_t at = 0;
    for (int i = 0; i < count; i++) {
        x.length[i] = length[i];
        x.offset[i] = at;
        at += (int64_t)length[i] * item;
        x.doc[i + 1] = i + 1;
    }
    x.documents = (uint64_t)count + 1;
    return x;
}

static void write_index(const char *name, const struct index *x)
{
    unsigned char all[4096] = {0}, *p = all;
    size_t s = x->sequences < 64 ? x->sequences : 0, d = x->documents < 64 ? x->documents : 0;
#define PUT(from, bytes) (memcpy(p, from, bytes), p += (bytes))
    PUT(x->magic, 9);
    PUT(&x->version, 8);
    PUT(&x->dtype, 1);
    PUT(&x->sequences, 8);
    PUT(&x->documents, 8);
    PUT(x->length, 4 * s);
    PUT(x->offset, 8 * s);
    PUT(x->doc, 8 * d);
#undef PUT
    p += x->modes + x->extra;
    write_file(in_dir(name, ".idx"), all, (size_t)(p - all - x->cut));
}

/* Tokens 0 1 2 … of one of the integer types. */
static void write_tokens(const char *name, int item, int count)
{
    unsigned char all[4096] = {0};
    for (int64_t i = 0; i < count; i++)
        memcpy(all + i * item, &i, (size_t)item);
    write_file(in_dir(name, ".bin"), all, (size_t)count * (size_t)item);
}

static void assert_fails(const char *spec, const char *part, const char *file)
{
    error_clear();
    struct data *d = data_open(spec, 4, 1000, 1, false);
    if (d)
        print_error("opened, though '%s' was expected\n", part);
    assert_null(d);
    if (!strstr(error_text(), part) || !strstr(error_text(), file))
        print_error("expected '%s' and '%s' in: %s\n", part, file, error_text());
    assert_non_null(strstr(error_text(), part));
    assert_non_null(strstr(error_text(), file));
    assert_int_equal(error_status(), STATUS_USAGE);
}

static struct data *must_open(const char *spec, int64_t seq, uint64_t seed, bool shuffle)
{
    struct data *d = data_open(spec, seq, 1000, seed, shuffle);
    if (!d)
        print_error("%s\n", error_text());
    assert_non_null(d);
    return d;
}

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
            assert_fails(in_dir("bad", ""), "bad.idx", far[i] % 4 && far[i] > 0 ? "no multiple" : "outside");
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

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    return remove_tree(dir);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
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
        cmocka_unit_test(permutations),
        cmocka_unit_test(permutation_is_fixed),
        cmocka_unit_test(epochs),
        cmocka_unit_test(blend_shares),
        cmocka_unit_test(seek_resumes),
        cmocka_unit_test(masks),
        cmocka_unit_test(identities),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}

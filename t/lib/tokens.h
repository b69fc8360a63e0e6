/* SPDX-License-Identifier: MIT */
/* Token files for unit tests: an .idx that can be bent, and a directory that goes at the end. */
#ifndef T_TOKENS_H
#define T_TOKENS_H

#include <unistd.h>

#include "base/file.h"
#include "data/data.h"
#include "lib/unit.h"

static char dir[] = "/tmp/moekit-data-XXXXXX";

/* A path in the test's directory; good for four calls. */
static inline char *in_dir(const char *name, const char *ending)
{
    static char path[4][256]; /* a few at a time */
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s%s", dir, name, ending);
    return path[turn];
}

static inline void write_file(const char *path, const void *p, size_t bytes)
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
static inline struct index make_index(int dtype, int item, int count, const int32_t *length)
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

static inline void write_index(const char *name, const struct index *x)
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
static inline void write_tokens(const char *name, int item, int count)
{
    unsigned char all[4096] = {0};
    for (int64_t i = 0; i < count; i++)
        memcpy(all + i * item, &i, (size_t)item);
    write_file(in_dir(name, ".bin"), all, (size_t)count * (size_t)item);
}

/* data_open() fails as bad input, naming `part` and `file`. */
static inline void assert_fails(const char *spec, const char *part, const char *file)
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

static inline struct data *must_open(const char *spec, int64_t seq, uint64_t seed, bool shuffle)
{
    struct data *d = data_open(spec, seq, 1000, seed, shuffle);
    if (!d)
        print_error("%s\n", error_text());
    assert_non_null(d);
    return d;
}

static inline int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static inline int remove_dir(void **state)
{
    return remove_tree(dir);
}

#endif

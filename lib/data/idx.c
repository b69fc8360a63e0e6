/* SPDX-License-Identifier: MIT */
/* Layout, little-endian: 9 bytes of magic, u64 version, u8 dtype, u64 S, u64 D, i32[S] lengths in tokens,
 * i64[S] byte offsets, i64[D] documents (each one's first sequence, and S at the end), and from newer writers
 * i8[S] modes.
 *
 * The file may hold billions of sequences, so it is read in pieces: once to check it, and a second time for
 * tables only where the sequences do not lie back to back.
 *
 * dtype codes 6, 7 and 8 mean f64, f32, u16 to Megatron and u16, u32, u64 to DeepSpeed, in files that are
 * otherwise the same. The sizes of the items differ, so the .bin tells: the first pass follows both readings.
 */
#include "data/idx.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/lfs.h"
#include "base/num.h"

enum { HEAD = 34, PIECE = 8192, NOT_TOKENS = -1 };

/* One way to read the dtype, and how it fares. */
struct dtype_reading {
    int type, bytes;
    const char *name;
    bool back_to_back;   /* each sequence begins where the one before ends */
    bool fits;           /* every sequence lies in the .bin */
    int64_t bad, bad_at; /* the first sequence that does not, and its offset */
    int32_t bad_length;
};

struct scan {
    const char *path, *bin_path;
    int fd;
    int64_t sequences, documents, bin_bytes;
    int64_t tokens, base;
    bool told; /* there is a sequence after one that is not empty, so offsets tell the item size */
    struct dtype_reading reading[2];
    int readings;
};

static int dtype_readings(struct scan *s, int code)
{
    static const struct dtype_reading megatron[] = {
        {0},
        {TOKEN_U8, 1, "u8"},
        {TOKEN_I8, 1, "i8"},
        {TOKEN_I16, 2, "i16"},
        {TOKEN_I32, 4, "i32"},
        {TOKEN_I64, 8, "i64"},
        {NOT_TOKENS, 8, "f64"},
        {TOKEN_U32, 4, "u32"}, /* f32 has the same size and is never a token */
        {TOKEN_U16, 2, "u16"},
    };
    if (code < 1 || code > 8)
        return error(STATUS_USAGE, "%s: dtype code %d is unknown (1 to 8 are known)", s->path, code);
    s->reading[0] = megatron[code];
    s->readings = 1;
    if (code == 6)
        s->reading[s->readings++] = (struct dtype_reading){TOKEN_U16, 2, "u16"};
    if (code == 8)
        s->reading[s->readings++] = (struct dtype_reading){TOKEN_U64, 8, "u64"};
    for (int i = 0; i < s->readings; i++)
        s->reading[i].back_to_back = s->reading[i].fits = true;
    return 0;
}

static int read_head(struct scan *s)
{
    unsigned char head[HEAD];
    struct stat st;
    if (fstat(s->fd, &st) != 0)
        return error_errno("cannot read '%s'", s->path);
    if (!S_ISREG(st.st_mode))
        return error(STATUS_USAGE, "%s: not a regular file", s->path);
    int64_t size = st.st_size;
    if (size < HEAD)
        return error(STATUS_USAGE, "%s: truncated: %lld bytes, and the header alone has %d", s->path,
                     (long long)size, HEAD);
    if (pread_all(s->fd, head, HEAD, 0, s->path) < 0)
        return -1;
    if (memcmp(head, "MMIDIDX\0", 9) != 0)
        return error(STATUS_USAGE, "%s: not a Megatron index: it does not begin with 'MMIDIDX'", s->path);
    uint64_t version, sequences, documents;
    memcpy(&version, head + 9, 8);
    memcpy(&sequences, head + 18, 8);
    memcpy(&documents, head + 26, 8);
    if (version != 1)
        return error(STATUS_USAGE, "%s: version %llu of the index format is unknown (1 is known)", s->path,
                     (unsigned long long)version);
    if (dtype_readings(s, head[17]) < 0)
        return -1;
    uint64_t body = (uint64_t)size - HEAD;
    if (sequences > body / 12 || documents > body / 8 || 12 * sequences + 8 * documents > body)
        return error(STATUS_USAGE,
                     "%s: truncated: %lld bytes are too few for %llu sequences and %llu document indices",
                     s->path, (long long)size, (unsigned long long)sequences, (unsigned long long)documents);
    uint64_t rest = body - 12 * sequences - 8 * documents;
    if (rest != 0 && rest != sequences)
        return error(
            STATUS_USAGE, "%s: %llu bytes after the end of its tables (%llu sequences, %llu document indices)",
            s->path, (unsigned long long)rest, (unsigned long long)sequences, (unsigned long long)documents);
    s->sequences = (int64_t)sequences;
    s->documents = (int64_t)documents;
    return 0;
}

/* Lengths and offsets of sequences [from, from+count). */
static int read_piece(const struct scan *s, int64_t from, int64_t count, int32_t *length, int64_t *offset)
{
    if (pread_all(s->fd, length, count * sizeof *length, HEAD + 4 * from, s->path) < 0)
        return -1;
    return pread_all(s->fd, offset, count * sizeof *offset, HEAD + 4 * s->sequences + 8 * from, s->path);
}

static void follow(struct dtype_reading *r, const struct scan *s, int64_t i, int32_t length, int64_t offset,
                   int64_t expected)
{
    int64_t bytes = (int64_t)length * r->bytes;
    if (i > 0 && offset != expected)
        r->back_to_back = false;
    if (r->fits && (offset < 0 || offset % r->bytes || bytes > s->bin_bytes || offset > s->bin_bytes - bytes)) {
        r->fits = false;
        r->bad = i;
        r->bad_at = offset;
        r->bad_length = length;
    }
}

static int check_sequences(struct scan *s)
{
    int32_t length[PIECE];
    int64_t offset[PIECE], expected[2] = {0};
    for (int64_t from = 0; from < s->sequences; from += PIECE) {
        int64_t count = min64(PIECE, s->sequences - from);
        if (read_piece(s, from, count, length, offset) < 0)
            return -1;
        if (from == 0)
            s->base = offset[0];
        for (int64_t k = 0; k < count; k++) {
            int64_t i = from + k;
            if (length[k] < 0)
                return error(STATUS_USAGE, "%s: sequence %lld has the length %d", s->path, (long long)i,
                             length[k]);
            if (i > 0 && s->tokens > 0)
                s->told = true;
            for (int r = 0; r < s->readings; r++) {
                follow(&s->reading[r], s, i, length[k], offset[k], expected[r]);
                /* An offset that would overflow lies outside the .bin, so it fits no reading. */
                if (!add_ok(offset[k], (int64_t)length[k] * s->reading[r].bytes, &expected[r]))
                    expected[r] = -1;
            }
            if (!add_ok(s->tokens, length[k], &s->tokens))
                return error(STATUS_USAGE, "%s: the lengths of its sequences overflow", s->path);
        }
    }
    return 0;
}

static int check_documents(const struct scan *s)
{
    int64_t doc[PIECE], before = 0;
    int64_t at = HEAD + 12 * s->sequences;
    if (s->documents < 1)
        return error(STATUS_USAGE, "%s: no document indices (the first must be 0)", s->path);
    for (int64_t from = 0; from < s->documents; from += PIECE) {
        int64_t count = min64(PIECE, s->documents - from);
        if (pread_all(s->fd, doc, count * sizeof *doc, at + 8 * from, s->path) < 0)
            return -1;
        if (from == 0 && doc[0] != 0)
            return error(STATUS_USAGE, "%s: the first document index is %lld, not 0", s->path,
                         (long long)doc[0]);
        for (int64_t k = 0; k < count; before = doc[k++])
            if (doc[k] < before || doc[k] > s->sequences)
                return error(STATUS_USAGE,
                             "%s: document index %lld is %lld, after %lld and with %lld sequences", s->path,
                             (long long)(from + k), (long long)doc[k], (long long)before,
                             (long long)s->sequences);
    }
    if (before != s->sequences)
        return error(STATUS_USAGE, "%s: the last document index is %lld, not %lld, the number of sequences",
                     s->path, (long long)before, (long long)s->sequences);
    return 0;
}

/* The one reading that the .bin agrees with; NULL when both would do. */
static const struct dtype_reading *choose(const struct scan *s)
{
    const struct dtype_reading *a = &s->reading[0], *b = &s->reading[1];
    int64_t bytes;
    if (s->readings == 1)
        return a;
    for (int i = 0; i < 2; i++)
        if (s->tokens && mul_ok(s->tokens, s->reading[i].bytes, &bytes) && bytes == s->bin_bytes &&
            s->reading[i].fits)
            return &s->reading[i];
    if (s->told && a->back_to_back != b->back_to_back)
        return a->back_to_back ? a : b;
    if (a->fits != b->fits)
        return a->fits ? a : b;
    /* Neither fits: the .bin is too short, or an offset is wrong; the smaller items show it best. */
    return a->fits ? NULL : a->bytes < b->bytes ? a : b;
}

static int pick_type(struct idx *x, const struct scan *s)
{
    const struct dtype_reading *r = choose(s);
    if (!r)
        return error(STATUS_USAGE,
                     "%s: its dtype is %s in Megatron and %s in DeepSpeed, and '%s' does not tell which",
                     s->path, s->reading[0].name, s->reading[1].name, s->bin_path);
    if (!r->fits && r->bad_at >= 0 && r->bad_at % r->bytes)
        return error(STATUS_USAGE,
                     "%s: the offset of sequence %lld, %lld, is not a multiple of %d, the size of %s", s->path,
                     (long long)r->bad, (long long)r->bad_at, r->bytes, r->name);
    if (!r->fits)
        return error(STATUS_USAGE,
                     "%s: sequence %lld (%d tokens of %s at byte %lld) is outside '%s', which has %lld bytes",
                     s->path, (long long)r->bad, r->bad_length, r->name, (long long)r->bad_at, s->bin_path,
                     (long long)s->bin_bytes);
    if (r->type == NOT_TOKENS)
        return error(STATUS_USAGE, "%s: holds %s numbers, not tokens", s->path, r->name);
    *x = (struct idx){.type = (enum token_type)r->type,
                      .item_bytes = r->bytes,
                      .sequences = s->sequences,
                      .tokens = s->tokens,
                      .base = s->base};
    return r->back_to_back;
}

static int make_tables(struct idx *x, const struct scan *s)
{
    int32_t length[PIECE];
    int64_t at = 0;
    x->start = malloc((s->sequences + 1) * sizeof *x->start);
    x->offset = malloc(s->sequences * sizeof *x->offset);
    if (!x->start || !x->offset)
        return error(STATUS_ENV, "%s: out of memory for %lld sequences", s->path, (long long)s->sequences);
    for (int64_t from = 0; from < s->sequences; from += PIECE) {
        int64_t count = min64(PIECE, s->sequences - from);
        if (read_piece(s, from, count, length, x->offset + from) < 0)
            return -1;
        for (int64_t k = 0; k < count; k++) {
            x->start[from + k] = at;
            at += max64(length[k], 0);
        }
    }
    x->start[s->sequences] = at;
    if (at != s->tokens)
        return error(STATUS_ENV, "%s: changed while it was read", s->path);
    return 0;
}

static int scan_all(struct idx *x, struct scan *s)
{
    if (lfs_refuse(s->fd, s->path) < 0 || read_head(s) < 0 || check_sequences(s) < 0 || check_documents(s) < 0)
        return -1;
    int back_to_back = pick_type(x, s);
    if (back_to_back < 0)
        return -1;
    return back_to_back ? 0 : make_tables(x, s);
}

int idx_read(struct idx *x, const char *idx_path, const char *bin_path, int64_t bin_bytes)
{
    struct scan s = {.path = idx_path, .bin_path = bin_path, .bin_bytes = bin_bytes};
    *x = (struct idx){0};
    s.fd = open(idx_path, O_RDONLY | O_CLOEXEC);
    if (s.fd < 0)
        return error_errno("cannot open '%s'", idx_path);
    int r = scan_all(x, &s);
    close(s.fd);
    if (r < 0)
        idx_release(x);
    return r;
}

void idx_release(struct idx *x)
{
    free(x->start);
    free(x->offset);
    *x = (struct idx){0};
}

int64_t idx_find(const struct idx *x, int64_t at, int64_t *run)
{
    if (!x->start) {
        *run = x->tokens - at;
        return x->base + at * x->item_bytes;
    }
    /* The last sequence that starts at or before `at`; empty ones before it start there too and are passed
     * over. */
    int64_t low = 0, high = x->sequences;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (x->start[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    *run = x->start[low + 1] - at;
    return x->offset[low] + (at - x->start[low]) * x->item_bytes;
}

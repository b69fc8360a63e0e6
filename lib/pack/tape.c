/* SPDX-License-Identifier: MIT */
/* Sums are of what goes through the callbacks, so that nothing libarchive does can escape them. A reader keeps
 * two blocks, and what the sum was before each: when libarchive finds the last member, its header begins in one
 * of them. */
#include "pack/tape.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "pack/index.h"
#include "tensors/sum.h"

enum {
    SUM_BYTES = 1024, /* header and block */
    END_BYTES = 1024, /* zeros that end a tar */
    BLOCK = 256 << 10,
};
#define FIXED_TIME 315532800 /* 1980: of members that are not files of the directory */

static void describe(struct archive_entry *e, const char *name, int64_t bytes, int mode, int64_t mtime, int ns)
{
    archive_entry_clear(e);
    archive_entry_set_pathname(e, name);
    archive_entry_set_filetype(e, AE_IFREG);
    archive_entry_set_perm(e, (mode_t)mode);
    archive_entry_set_size(e, bytes);
    archive_entry_set_mtime(e, mtime, ns);
}

static struct archive *new_writer(bool any_names)
{
    struct archive *a = archive_write_new();
    archive_write_set_format_pax(a);
    if (any_names) /* which costs each member a header more, of a kind that GNU tar does not know */
        archive_write_set_options(a, "hdrcharset=BINARY");
    archive_write_set_bytes_per_block(a, 0); /* nothing waits */
    return a;
}

/* The member that says this sum. */
static void sum_member(uint32_t crc32, int64_t bytes, char block[static SUM_BYTES])
{
    char text[64], room[8 << 10] = "";
    size_t used = 0;
    struct archive *a = new_writer(false);
    struct archive_entry *e = archive_entry_new();
    archive_write_open_memory(a, room, sizeof room, &used);
    int n = snprintf(text, sizeof text, "crc32=%08" PRIx32 " bytes=%" PRId64 "\n", crc32, bytes);
    describe(e, SUM_MEMBER, n, 0644, FIXED_TIME, 0);
    archive_write_header(a, e);
    archive_write_data(a, text, (size_t)n);
    archive_write_finish_entry(a);
    memcpy(block, room, SUM_BYTES);
    archive_write_free(a);
    archive_entry_free(e);
}

/* ---- writing ---- */

struct tape_writer {
    struct archive *a;
    struct archive_entry *entry;
    const char *path;
    int fd;
    uint32_t crc32;
    int64_t bytes;
    bool failed; /* error() is set */
};

static la_ssize_t put(struct archive *a, void *with, const void *p, size_t n)
{
    struct tape_writer *w = with;
    for (size_t done = 0; done < n;) {
        size_t piece = n - done < PIECE_BYTES ? n - done : PIECE_BYTES;
        ssize_t wrote = write(w->fd, (const char *)p + done, piece);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0) {
            w->failed = true;
            return error_errno("cannot write '%s'", w->path);
        }
        done += (size_t)wrote;
        alive();
    }
    w->crc32 = sum_bytes(w->crc32, p, (int64_t)n);
    w->bytes += (int64_t)n;
    return (la_ssize_t)n;
}

/* What libarchive returned, as ours. */
static int wrote(struct tape_writer *w, la_ssize_t r)
{
    if (w->failed)
        return -1;
    return r < 0 ? error(STATUS_ENV, "%s: %s", w->path, archive_error_string(w->a)) : 0;
}

struct tape_writer *tape_create(int fd, const char *path, bool any_names)
{
    struct tape_writer *w = xcalloc(1, sizeof *w);
    *w = (struct tape_writer){.a = new_writer(any_names), .entry = archive_entry_new(), .path = path, .fd = fd};
    if (wrote(w, archive_write_open(w->a, w, NULL, put, NULL)) == 0)
        return w;
    tape_abandon(w);
    return NULL;
}

int tape_member(struct tape_writer *w, const char *name, int64_t bytes, int mode, int64_t mtime, int ns)
{
    TRY(wrote(w, archive_write_finish_entry(w->a)));
    describe(w->entry, name, bytes, mode, mtime, ns);
    return wrote(w, archive_write_header(w->a, w->entry));
}

int tape_write(struct tape_writer *w, const void *p, int64_t bytes)
{
    return wrote(w, archive_write_data(w->a, p, (size_t)bytes));
}

int tape_finish(struct tape_writer *w, int64_t *bytes)
{
    char block[SUM_BYTES];
    int rc = wrote(w, archive_write_finish_entry(w->a));
    if (rc == 0) {
        sum_member(w->crc32, w->bytes, block);
        rc = put(w->a, w, block, sizeof block) < 0 ? -1 : 0;
    }
    if (rc == 0)
        rc = wrote(w, archive_write_close(w->a));
    if (bytes)
        *bytes = w->bytes;
    tape_abandon(w);
    return rc;
}

void tape_abandon(struct tape_writer *w)
{
    if (!w)
        return;
    w->fd = -1; /* libarchive would end the tar */
    archive_write_fail(w->a);
    archive_write_free(w->a);
    archive_entry_free(w->entry);
    free(w);
}

/* ---- reading ---- */

struct tape_block {
    uint8_t bytes[BLOCK];
    int64_t at, count;
    uint32_t crc32; /* of all before it */
};

struct tape_reader {
    struct archive *a;
    struct archive_entry *entry;
    char *path;
    int fd;
    int64_t size; /* 0: unknown */
    bool may_skip, skipped, failed;
    struct tape_block blocks[2]; /* the last read is blocks[latest] */
    int latest;
    int64_t at; /* where the next block begins */
    int64_t read;
    uint32_t crc32; /* of all before that */
    int64_t member; /* bytes of the current one that are left */
};

/* The next block, full but at the end. Its bytes; -1 with error(). */
static int64_t next_block(struct tape_reader *r)
{
    struct tape_block *b = &r->blocks[r->latest = !r->latest];
    b->at = r->at;
    b->crc32 = r->crc32;
    b->count = 0;
    while (b->count < BLOCK) {
        ssize_t n = read(r->fd, b->bytes + b->count, (size_t)(BLOCK - b->count));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            r->failed = true;
            return error_errno("cannot read '%s'", r->path);
        }
        if (n == 0)
            break;
        b->count += n;
    }
    r->crc32 = sum_bytes(r->crc32, b->bytes, b->count);
    r->at += b->count;
    r->read += b->count;
    alive();
    return b->count;
}

static la_ssize_t get(struct archive *a, void *with, const void **p)
{
    struct tape_reader *r = with;
    int64_t n = next_block(r);
    *p = r->blocks[r->latest].bytes;
    return (la_ssize_t)n;
}

/* Over whole blocks; libarchive reads the rest. */
static la_int64_t skip(struct archive *a, void *with, la_int64_t bytes)
{
    struct tape_reader *r = with;
    int64_t n = bytes / BLOCK * BLOCK;
    if (!r->may_skip || !r->size || n > r->size - r->at || n <= 0 || lseek(r->fd, n, SEEK_CUR) < 0)
        return 0;
    r->at += n;
    r->skipped = true;
    return n;
}

static int bad(const struct tape_reader *r, const char *what)
{
    return error(STATUS_USAGE, "%s: %s", r->path, what);
}

/* What libarchive returned, as ours: its warnings count, since a tar of ours gives it no reason for any. */
static int was_read(struct tape_reader *r, int code)
{
    if (r->failed)
        return -1;
    if (code == ARCHIVE_OK || code == ARCHIVE_EOF)
        return 0;
    const char *why = archive_error_string(r->a);
    return error(STATUS_USAGE, "%s: not a whole archive: %s", r->path, why ? why : "it is no tar");
}

struct tape_reader *tape_open(const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    struct stat st;
    if (is_stdin && stdin_take() < 0)
        return NULL;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        error_errno("cannot open '%s'", path);
        return NULL;
    }
    struct tape_reader *r = xcalloc(1, sizeof *r);
    r->path = xstrdup(is_stdin ? "standard input" : path);
    r->fd = fd;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && !is_stdin)
        r->size = st.st_size;
    r->a = archive_read_new();
    r->entry = archive_entry_new();
    archive_read_support_format_tar(r->a);
    archive_read_set_options(r->a, "hdrcharset=BINARY");
    if (was_read(r, archive_read_open2(r->a, r, NULL, get, skip, NULL)) == 0)
        return r;
    tape_close(r);
    return NULL;
}

void tape_close(struct tape_reader *r)
{
    if (!r)
        return;
    archive_read_free(r->a);
    archive_entry_free(r->entry);
    if (r->fd != STDIN_FILENO)
        close(r->fd);
    free(r->path);
    free(r);
}

/* Copies the stream's bytes [at,at+n) out of the two blocks; false where they are not in them. */
static bool lies_in_blocks(const struct tape_reader *r, int64_t at, uint8_t *p, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const struct tape_block *b = &r->blocks[r->latest];
        if (at + i < b->at)
            b = &r->blocks[!r->latest];
        if (at + i < b->at || at + i >= b->at + b->count)
            return false;
        p[i] = b->bytes[at + i - b->at];
    }
    return true;
}

/* Whether the two blocks have only zeros from `at` on, of which *zeros is how many. */
static bool all_zero(const struct tape_reader *r, int64_t at, int64_t *zeros)
{
    for (int i = 0; i < 2; i++) {
        const struct tape_block *b = &r->blocks[i];
        for (int64_t k = max64(0, at - b->at); k < b->count; k++, (*zeros)++)
            if (b->bytes[k])
                return false;
    }
    return true;
}

/* The sum, whose header begins at `at`, and what follows it. */
static int check_sum(struct tape_reader *r, int64_t at)
{
    uint8_t is[SUM_BYTES];
    char wanted[SUM_BYTES];
    const struct tape_block *b = &r->blocks[at < r->blocks[r->latest].at ? !r->latest : r->latest];
    int64_t zeros = 0, count;
    if (r->at - at < SUM_BYTES && next_block(r) < 0)
        return -1;
    if (at < b->at || !lies_in_blocks(r, at, is, SUM_BYTES))
        return bad(r, "is cut off in its sum, or has something odd before it");
    sum_member(sum_bytes(b->crc32, b->bytes, at - b->at), at, wanted);
    if (memcmp(is, wanted, SUM_BYTES) != 0)
        return bad(r, "its sum does not match: it is damaged");
    if (!all_zero(r, at + SUM_BYTES, &zeros))
        return bad(r, "something other than zeros follows its sum");
    while ((count = next_block(r)) > 0) {
        r->blocks[!r->latest].count = 0; /* seen */
        if (!all_zero(r, r->blocks[r->latest].at, &zeros))
            return bad(r, "something other than zeros follows its sum");
    }
    if (count < 0)
        return -1;
    return zeros < END_BYTES ? bad(r, "its end is cut off") : 0;
}

/* Whether the entry is what we write: a regular file, whole. */
static int check_entry(struct tape_reader *r)
{
    struct archive_entry *e = r->entry;
    const char *name = archive_entry_pathname(e);
    if (!name || !*name)
        return bad(r, "has a member without a name");
    if (archive_entry_filetype(e) != AE_IFREG || archive_entry_hardlink(e) || archive_entry_symlink(e))
        return error(STATUS_USAGE, "%s: its member '%.200s' is a link, a folder or a device", r->path, name);
    if (archive_entry_sparse_count(e) || !archive_entry_size_is_set(e) || archive_entry_size(e) < 0)
        return error(STATUS_USAGE, "%s: its member '%.200s' has holes or no size", r->path, name);
    return 0;
}

int tape_next(struct tape_reader *r, const char **name, int64_t *bytes)
{
    int code = archive_read_next_header2(r->a, r->entry);
    TRY(was_read(r, code));
    if (code == ARCHIVE_EOF)
        return bad(r, "has no sum at its end: it is cut off, or nothing that moe-ckpt packed");
    TRY(check_entry(r));
    *name = archive_entry_pathname(r->entry);
    *bytes = r->member = archive_entry_size(r->entry);
    if (strcmp(*name, SUM_MEMBER) != 0)
        return 1;
    return r->skipped ? 0 : check_sum(r, archive_read_header_position(r->a));
}

int tape_data(struct tape_reader *r, const void **p, int64_t *bytes)
{
    size_t n;
    la_int64_t offset;
    *bytes = 0;
    if (!r->member)
        return 0;
    int code = archive_read_data_block(r->a, p, &n, &offset);
    TRY(was_read(r, code));
    if (code == ARCHIVE_EOF || offset != archive_entry_size(r->entry) - r->member || (int64_t)n > r->member)
        return bad(r, "a member is cut off");
    *bytes = (int64_t)n;
    r->member -= *bytes;
    return 1;
}

int tape_read(struct tape_reader *r, void *p, int64_t bytes)
{
    for (int64_t done = 0; done < bytes;) {
        la_ssize_t n = archive_read_data(r->a, (char *)p + done, (size_t)(bytes - done));
        if (n < 0)
            return was_read(r, (int)n) < 0 ? -1 : bad(r, "cannot be read");
        if (n == 0)
            return bad(r, "a member is cut off");
        done += n;
        r->member -= n;
    }
    return 0;
}

void tape_may_skip(struct tape_reader *r)
{
    r->may_skip = true;
}

bool tape_skipped(const struct tape_reader *r)
{
    return r->skipped;
}

int64_t tape_bytes_read(const struct tape_reader *r)
{
    return r->read;
}

int64_t tape_size(const struct tape_reader *r)
{
    return r->size;
}

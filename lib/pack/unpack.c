/* SPDX-License-Identifier: MIT */
#include "pack/unpack.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/crew.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "pack/pack.h"
#include "tensors/sum.h"

static int bad(const struct unpack *u, const char *what)
{
    return error(STATUS_USAGE, "%s: %s", u->path, what);
}

static int read_index(struct unpack *u, bool *newer)
{
    const char *name;
    int64_t bytes;
    int got = tape_next(u->tape, &name, &bytes);
    if (got < 0)
        return -1;
    if (got == 0 || strcmp(name, INDEX_MEMBER) != 0)
        return bad(u, "does not begin with an index: nothing that moe-ckpt packed");
    if (bytes > MAX_INDEX_BYTES)
        return bad(u, "its index is too large");
    char *text = xmalloc((size_t)bytes + 1), *where = xasprintf("%s: " INDEX_MEMBER, u->path);
    int rc = tape_read(u->tape, text, bytes);
    text[bytes] = '\0';
    if (rc == 0)
        rc = index_parse(&u->index, text, (size_t)bytes, where);
    if (newer)
        *newer = u->index.newer;
    free(where);
    free(text);
    return rc;
}

int unpack_open(struct unpack *u, const char *path, int threads, bool *newer)
{
    *u = (struct unpack){.path = xstrdup(strcmp(path, "-") == 0 ? "standard input" : path),
                         .tape = tape_open(path),
                         .doing = "reading"};
    int rc = u->tape ? read_index(u, newer) : -1;
    if (rc < 0) {
        unpack_close(u);
        return -1;
    }
    u->threads = pack_threads(threads, u->index.part_bytes, 2);
    u->keep = xcalloc(u->index.file_count, sizeof *u->keep);
    for (int i = 0; i < u->index.file_count; i++)
        u->keep[i] = true;
    return 0;
}

void unpack_close(struct unpack *u)
{
    tape_close(u->tape);
    index_release(&u->index);
    free(u->keep);
    free(u->path);
    *u = (struct unpack){0};
}

/* ---- parts ---- */

struct unpack_job {
    struct crew_job job;
    int file;
    int64_t part, at, bytes;
    uint8_t *raw, *packed;
    int64_t packed_bytes;
    uint32_t crc32; /* of raw, as it comes out of all that is done with it */
};

struct unpacking {
    struct unpack *u;
    unpack_part *part;
    void *with;
    bool whole;
    struct coder **coders; /* [threads] */
    struct crew *crew;
    uint32_t crc32; /* of the file whose parts come back, so far */
};

static int unpack_one(void *with, void *job, int hand)
{
    struct unpacking *k = with;
    struct unpack_job *j = job;
    if (!k->coders[hand])
        j->crc32 = sum_bytes(0, j->raw, j->bytes);
    else if (coder_decode(k->coders[hand], j->packed, j->packed_bytes, j->raw, j->bytes, &j->crc32) < 0)
        return error_prefix("%s: '%s', part %" PRId64, k->u->path, k->u->index.files[j->file].name, j->part);
    return k->part ? k->part(k->with, j->file, j->at, j->raw, j->bytes, &j->crc32, hand) : 0;
}

/* Whether the sum of the file's members is that of the file. */
static bool is_comparable(const struct unpacking *k, const struct packed_file *f)
{
    return !packed_is_made(f) && (k->whole || !packed_has_xor(f));
}

/* n bytes of a file more, with this sum; the last are `last`. */
static int add_sum(struct unpacking *k, const struct packed_file *f, uint32_t crc32, int64_t n, bool last)
{
    struct unpack *u = k->u;
    k->crc32 = sum_join(k->crc32, crc32, n);
    u->done += n;
    progress(u->doing, (uint64_t)u->done >> 20, (uint64_t)u->total >> 20, "MiB");
    uint32_t is = k->crc32;
    if (!last)
        return 0;
    k->crc32 = 0;
    if (!is_comparable(k, f) || is == f->crc32)
        return 0;
    return error(STATUS_USAGE, "%s: '%s' comes out with crc32 %08" PRIx32 ", not %08" PRIx32 "%s", u->path,
                 f->name, is, f->crc32, packed_has_xor(f) ? ": the base is another" : "");
}

static int take_back(struct unpacking *k, const struct unpack_job *j)
{
    const struct packed_file *f = &k->u->index.files[j->file];
    if (j->job.failed)
        return -1;
    TRY(add_sum(k, f, j->crc32, j->bytes, j->at + j->bytes == packed_bytes(f)));
    crew_free(k->crew);
    return 0;
}

/* A slot for the part. NULL with error(). */
static struct unpack_job *next_job(struct unpacking *k, int file, int64_t part, int64_t at)
{
    struct unpack_job *j;
    const struct pack_index *ix = &k->u->index;
    while (!(j = crew_slot(k->crew)))
        if (take_back(k, crew_wait(k->crew)) < 0)
            return NULL;
    j->file = file;
    j->part = part;
    j->at = at;
    j->bytes = min64(ix->part_bytes, packed_bytes(&ix->files[file]) - at);
    return j;
}

/* ---- members ---- */

/* The next member, which must be this one. */
static int next_member(struct unpack *u, const struct packed_file *f, int64_t part, int64_t *bytes)
{
    const char *name;
    int got = tape_next(u->tape, &name, bytes);
    if (got < 0)
        return -1;
    char *wanted = packed_member_name(&u->index, f, part);
    int rc = 0;
    if (got == 0 || strcmp(name, wanted) != 0)
        rc = error(STATUS_USAGE, "%s: '%.200s' stands where its index has '%.200s'", u->path,
                   got ? name : SUM_MEMBER, wanted);
    free(wanted);
    return rc;
}

/* A file of the codec none, of which nothing but the sum is wanted: where it lies, without copies. */
static int sum_whole(struct unpacking *k, const struct packed_file *f)
{
    const void *p;
    int64_t n, done = 0;
    int got;
    while ((got = tape_data(k->u->tape, &p, &n)) > 0) {
        done += n;
        TRY(add_sum(k, f, sum_bytes(0, p, n), n, done == f->bytes));
    }
    return got < 0 || f->bytes ? got : add_sum(k, f, 0, 0, true);
}

static int read_whole(struct unpacking *k, int file)
{
    struct unpack *u = k->u;
    const struct packed_file *f = &u->index.files[file];
    int64_t bytes, at = 0, part = 0;
    TRY(next_member(u, f, 0, &bytes));
    if (bytes != f->bytes)
        return error(STATUS_USAGE, "%s: '%s' has %" PRId64 " bytes, not %" PRId64 " as its index says", u->path,
                     f->name, bytes, f->bytes);
    if (!u->keep[file])
        return 0;
    if (!k->part)
        return sum_whole(k, f);
    do {
        struct unpack_job *j = next_job(k, file, part++, at);
        if (!j || tape_read(u->tape, j->raw, j->bytes) < 0)
            return -1;
        at += j->bytes;
        crew_submit(k->crew);
    } while (at < f->bytes);
    return 0;
}

static int read_parts(struct unpacking *k, int file)
{
    struct unpack *u = k->u;
    const struct packed_file *f = &u->index.files[file];
    int64_t members = packed_members(&u->index, f), bytes;
    for (int64_t part = 0; part < members; part++) {
        TRY(next_member(u, f, part, &bytes));
        if (!u->keep[file])
            continue;
        struct unpack_job *j = next_job(k, file, part, part * u->index.part_bytes);
        if (!j)
            return -1;
        if (bytes > codec_bound(u->index.codec, j->bytes))
            return error(STATUS_USAGE, "%s: '%s', part %" PRId64 ": %" PRId64 " bytes are too many for it",
                         u->path, f->name, part, bytes);
        j->packed_bytes = bytes;
        TRY(tape_read(u->tape, j->packed, bytes));
        crew_submit(k->crew);
    }
    return 0;
}

static int read_members(struct unpacking *k)
{
    const struct pack_index *ix = &k->u->index;
    const struct unpack_job *j;
    const char *name;
    int64_t bytes;
    for (int i = 0; i < ix->file_count; i++)
        TRY(ix->codec == CODEC_NONE ? read_whole(k, i) : read_parts(k, i));
    while ((j = crew_wait(k->crew)))
        TRY(take_back(k, j));
    int got = tape_next(k->u->tape, &name, &bytes);
    return got > 0 ? bad(k->u, "has a member that its index does not name") : got;
}

int unpack_files(struct unpack *u, unpack_part *part, void *with, bool whole)
{
    struct unpacking k = {.u = u, .part = part, .with = with, .whole = whole};
    const struct pack_index *ix = &u->index;
    struct unpack_job *j;
    for (int i = 0; i < ix->file_count; i++)
        u->total += u->keep[i] ? packed_bytes(&ix->files[i]) : 0;
    k.coders = xcalloc(u->threads, sizeof(struct coder *));
    for (int i = 0; i < u->threads; i++)
        k.coders[i] = coder_new(ix->codec, ix->part_bytes);
    k.crew = crew_start(u->threads, u->threads > 1 ? u->threads + 2 : 1, sizeof *j, unpack_one, &k);
    for (int i = 0; (j = crew_job(k.crew, i)); i++) {
        j->raw = xmalloc((size_t)ix->part_bytes);
        j->packed = ix->codec == CODEC_NONE ? NULL : xmalloc((size_t)codec_bound(ix->codec, ix->part_bytes));
    }
    int rc = read_members(&k);
    crew_stop(k.crew);
    for (int i = 0; (j = crew_job(k.crew, i)); i++) {
        free(j->raw);
        free(j->packed);
    }
    crew_release(k.crew);
    for (int i = 0; i < u->threads; i++)
        coder_free(k.coders[i]);
    free(k.coders);
    progress_end();
    return rc;
}

/* SPDX-License-Identifier: MIT */
#include "pack/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/outdir.h"
#include "pack/base.h"
#include "pack/contents.h"
#include "pack/experts.h"
#include "pack/unpack.h"
#include "tensors/convert.h"
#include "tensors/sum.h"

#define PIECE ((int64_t)1 << 20)

struct restore_hand {
    struct kept_file base;
    int fd; /* of the file written last, or -1 */
    int file;
    uint8_t *scratch;
};

struct restoring {
    const struct restore_request *r;
    struct restored *done;
    struct unpack u;
    const char *dir; /* the temporary one */
    struct pack_base base;
    struct restore_hand *hands;
};

/* ---- parts, in any thread ---- */

static char *path_of(const struct restoring *k, int file)
{
    return path_join(k->dir, k->u.index.files[file].name);
}

static int close_output(struct restoring *k, struct restore_hand *h, int r)
{
    if (h->fd < 0)
        return r;
    char *path = path_of(k, h->file);
    r = file_close(h->fd, r, path);
    h->fd = -1;
    free(path);
    return r;
}

static int open_output(struct restoring *k, struct restore_hand *h, int file)
{
    if (h->fd >= 0 && h->file == file)
        return 0;
    TRY(close_output(k, h, 0));
    char *path = path_of(k, file);
    h->fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    h->file = file;
    int rc = h->fd < 0 ? error_errno("cannot write '%s'", path) : 0;
    free(path);
    return rc;
}

static bool is_zero(const uint8_t *p, int64_t n)
{
    return n && !p[0] && memcmp(p, p + 1, (size_t)n - 1) == 0;
}

static int write_part(void *with, int file, int64_t at, uint8_t *p, int64_t n, uint32_t *crc32, int hand)
{
    struct restoring *k = with;
    struct restore_hand *h = &k->hands[hand];
    const struct packed_file *f = &k->u.index.files[file];
    TRY(open_output(k, h, file));
    if (packed_has_xor(f)) {
        TRY(base_xor(&h->base, k->base.dir, f, at, n, p, h->scratch));
        *crc32 = sum_bytes(0, p, n);
    }
    if (is_zero(p, n)) /* the file has its size already, and zeros in it */
        return 0;
    char *path = path_of(k, file);
    int rc = 0;
    for (int64_t done = 0; done < n && rc == 0;) {
        int64_t piece = n - done, to = packed_place(f, at + done, &piece);
        rc = pwrite_all(h->fd, p + done, (size_t)piece, to, path);
        done += piece;
    }
    free(path);
    return rc;
}

/* ---- numbers that are made again ---- */

struct making {
    int fd, from;
    const char *path, *from_path;
    char *in, *out; /* [2 PIECE], [PIECE] */
};

static int make_span(struct making *m, const struct packed_span *s)
{
    for (int64_t at = s->begin; at < s->end; at += PIECE) {
        int64_t n = min64(PIECE, s->end - at);
        TRY(pread_all(m->from, m->in, (size_t)(2 * n), s->at + 2 * (at - s->begin), m->from_path));
        convert(m->out, BF16, m->in, NUMBER_F32, n / 2);
        TRY(pwrite_all(m->fd, m->out, (size_t)n, at, m->path));
    }
    return 0;
}

static int sum_file(struct making *m, const struct packed_file *f)
{
    uint32_t crc = 0;
    for (int64_t at = 0; at < f->bytes; at += PIECE) {
        int64_t n = min64(PIECE, f->bytes - at);
        TRY(pread_all(m->fd, m->out, (size_t)n, at, m->path));
        crc = sum_bytes(crc, m->out, n);
    }
    return crc == f->crc32 ? 0
                           : error(STATUS_USAGE, "'%s' comes out with crc32 %08" PRIx32 ", not %08" PRIx32,
                                   f->name, crc, f->crc32);
}

static int make_spans(struct restoring *k, struct making *m, const struct packed_file *f)
{
    int open_file = -1, rc = 0;
    char *path = NULL;
    for (int i = 0; i < f->span_count && rc == 0; i++) {
        const struct packed_span *s = &f->spans[i];
        if (s->base)
            continue;
        if (s->file != open_file) {
            if (m->from >= 0)
                close(m->from);
            free(path);
            m->from_path = path = path_of(k, s->file);
            m->from = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
            open_file = s->file;
            rc = m->from < 0 ? error_errno("cannot read '%s'", path) : 0;
        }
        if (rc == 0)
            rc = make_span(m, s);
    }
    if (m->from >= 0)
        close(m->from);
    free(path);
    return rc;
}

/* For crew_each(): makes what is to be made of a file again, and compares its sum. */
static int make_file(void *with, int i, int hand)
{
    struct restoring *k = with;
    const struct packed_file *f = &k->u.index.files[i];
    if (!k->u.keep[i] || !packed_is_made(f))
        return 0;
    char *path = path_of(k, i);
    struct making m = {open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW),
                       -1,
                       path,
                       NULL,
                       xmalloc((size_t)(2 * PIECE)),
                       xmalloc((size_t)PIECE)};
    int rc = m.fd < 0 ? error_errno("cannot write '%s'", path) : make_spans(k, &m, f);
    if (rc == 0)
        rc = sum_file(&m, f);
    rc = file_close(m.fd, rc, path);
    free(m.in);
    free(m.out);
    free(path);
    return rc;
}

/* ---- the directory ---- */

/* The file, empty but of its size. */
static int create_file(struct restoring *k, int i)
{
    const struct packed_file *f = &k->u.index.files[i];
    char *path = path_of(k, i), *parent = path_parent(path);
    int rc = make_dirs(parent), fd = -1;
    if (rc == 0)
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (rc == 0 && fd < 0)
        rc = error_errno("cannot write '%s'", path);
    else if (rc == 0 && ftruncate(fd, f->bytes) != 0)
        rc = errno == EFBIG
                 ? error(STATUS_USAGE, "%s: '%s' has %" PRId64 " bytes, more than a file may have here",
                         k->u.path, f->name, f->bytes)
                 : error_errno("cannot write '%s'", path);
    if (fd >= 0)
        close(fd);
    free(path);
    free(parent);
    return rc;
}

static int create_tree(struct restoring *k)
{
    const struct pack_index *ix = &k->u.index;
    TRY(make_dirs(k->dir));
    for (int i = 0; i < ix->dir_count; i++) {
        char *path = path_join(k->dir, ix->dirs[i].name);
        int rc = make_dirs(path);
        free(path);
        TRY(rc);
    }
    for (int i = 0; i < ix->file_count; i++)
        if (k->u.keep[i])
            TRY(create_file(k, i));
    return 0;
}

static int set_stamp(int fd, const char *path, int mode, int64_t mtime, int ns)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)mtime, .tv_nsec = ns}};
    if (fchmod(fd, (mode_t)mode) != 0 || futimens(fd, times) != 0)
        return error_errno("cannot set mode and time of '%s'", path);
    return 0;
}

/* For crew_each(). */
static int finish_file(void *with, int i, int hand)
{
    struct restoring *k = with;
    const struct packed_file *f = &k->u.index.files[i];
    if (!k->u.keep[i])
        return 0;
    char *path = path_of(k, i);
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    int rc =
        fd < 0 ? error_errno("cannot write '%s'", path) : set_stamp(fd, path, f->mode, f->mtime, f->mtime_ns);
    if (rc == 0)
        rc = file_sync(fd, path);
    rc = file_close(fd, rc, path);
    free(path);
    return rc;
}

/* Those within others first; a directory that may not be written is none until the end. */
static int finish_dirs(struct restoring *k)
{
    const struct pack_index *ix = &k->u.index;
    for (int i = ix->dir_count - 1; i >= 0; i--) {
        const struct packed_dir *d = &ix->dirs[i];
        char *path = path_join(k->dir, d->name);
        int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        int rc = fd < 0 ? error_errno("cannot open '%s'", path) : file_sync(fd, path);
        if (rc == 0)
            rc = set_stamp(fd, path, d->mode, d->mtime, d->mtime_ns);
        if (fd >= 0)
            close(fd);
        free(path);
        TRY(rc);
    }
    return 0;
}

/* ---- all ---- */

static int choose_experts(struct restoring *k)
{
    const struct pack_index *ix = &k->u.index;
    struct expert_choice *c = experts_parse("--experts", k->r->experts);
    int kept = 0;
    if (!c)
        return -1;
    for (int i = 0; i < ix->file_count; i++) {
        if (!ix->files[i].experts)
            continue;
        k->u.keep[i] = experts_overlap(c, ix->files[i].experts, ix->files[i].layers);
        kept += k->u.keep[i];
        k->done->left_out += !k->u.keep[i];
    }
    experts_free(c);
    if (!kept)
        return error(STATUS_USAGE, "%s: no file in it holds experts %s and nothing else", k->u.path,
                     k->r->experts);
    for (int i = 0; i < ix->file_count; i++)
        for (int s = 0; s < ix->files[i].span_count && k->u.keep[i]; s++)
            if (!ix->files[i].spans[s].base)
                k->u.keep[ix->files[i].spans[s].file] = true; /* what its numbers are made of */
    tape_may_skip(k->u.tape);
    return 0;
}

static int open_base(struct restoring *k)
{
    const struct pack_index *ix = &k->u.index;
    if (!ix->base && k->r->base)
        notice("%s: was packed without a base, and needs none", k->u.path);
    if (!ix->base)
        return 0;
    if (!k->r->base)
        return error(STATUS_USAGE, "%s: is the difference from '%s' (sum %08" PRIx32 "): give that with --base",
                     k->u.path, ix->base, ix->base_sum);
    TRY(base_open(&k->base, k->r->base, false));
    if (k->base.sum != ix->base_sum)
        return error(STATUS_USAGE, "'%s' is not the base of %s, '%s': its sum is %08" PRIx32 ", not %08" PRIx32,
                     k->r->base, k->u.path, ix->base, k->base.sum, ix->base_sum);
    return 0;
}

static int write_files(struct restoring *k)
{
    struct unpack *u = &k->u;
    k->hands = xcalloc(u->threads, sizeof *k->hands);
    for (int i = 0; i < u->threads; i++)
        k->hands[i] = (struct restore_hand){
            .base = {-1}, .fd = -1, .scratch = u->index.base ? xmalloc((size_t)u->index.part_bytes) : NULL};
    u->doing = "restoring";
    int rc = unpack_files(u, write_part, k, true);
    for (int i = 0; i < u->threads; i++) {
        kept_close(&k->hands[i].base);
        rc = close_output(k, &k->hands[i], rc);
        free(k->hands[i].scratch);
    }
    free(k->hands);
    return rc;
}

/* For outdir_fill(). */
static int restore_tree(void *with, const char *dir)
{
    struct restoring *k = with;
    struct restored *done = k->done;
    struct unpack *u = &k->u;
    int files = u->index.file_count;
    k->dir = dir;
    if (k->r->experts)
        TRY(choose_experts(k));
    TRY(open_base(k));
    TRY(create_tree(k));
    TRY(write_files(k));
    TRY(crew_each(u->threads, files, make_file, k, "making weights"));
    TRY(crew_each(u->threads, files, finish_file, k, "syncing"));
    TRY(finish_dirs(k));
    for (int i = 0; i < files; i++) {
        done->files += u->keep[i];
        done->bytes += u->keep[i] ? u->index.files[i].bytes : 0;
    }
    done->read = tape_bytes_read(u->tape);
    done->skipped = tape_skipped(u->tape);
    return 0;
}

int restore_archive(const struct restore_request *r, struct restored *done)
{
    struct restoring k = {.r = r, .done = done};
    *done = (struct restored){0};
    TRY(unpack_open(&k.u, r->archive, r->threads, NULL));
    int rc = outdir_fill(r->dir, restore_tree, &k);
    base_release(&k.base);
    unpack_close(&k.u);
    return rc;
}

/* ---- verify ---- */

int verify_archive(struct verified *v, const char *path, int threads, char about[static 160])
{
    struct unpack u;
    bool newer = false;
    *v = (struct verified){.step = true};
    about[0] = '\0';
    int rc = unpack_open(&u, path, threads, &newer);
    if (rc == 0) {
        contents_about(&u.index, about);
        v->files = u.index.file_count;
        for (int i = 0; i < v->files; i++)
            v->bytes += u.index.files[i].bytes;
        u.doing = "verifying";
        rc = unpack_files(&u, NULL, NULL, false);
        unpack_close(&u);
    }
    if (rc == 0 || newer || error_status() == STATUS_ENV)
        return rc;
    problem(&v->problems, "%s", error_text());
    return 0;
}

/* SPDX-License-Identifier: MIT */
#include "pack/base.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/manifest.h"
#include "ckpt/verify.h"
#include "pack/tree.h"
#include "tensors/sum.h"

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct base_tensor *)a)->name, ((const struct base_tensor *)b)->name);
}

static int add_file(struct pack_base *b, const char *name)
{
    struct st_file f;
    char *path = path_join(b->dir, name);
    int rc = st_open(&f, path);
    free(path);
    TRY(rc);
    b->files = xrealloc(b->files, (size_t)b->file_count + 1, sizeof *b->files);
    b->files[b->file_count] = xstrdup(name);
    b->tensors = xrealloc(b->tensors, (size_t)b->count + (size_t)f.count + 1, sizeof *b->tensors);
    for (int i = 0; i < f.count; i++) {
        const struct st_tensor *t = &f.tensors[i];
        struct base_tensor *x = &b->tensors[b->count++];
        *x = (struct base_tensor){.name = xstrdup(t->name),
                                  .bytes = t->end - t->begin,
                                  .file = b->file_count,
                                  .at = f.data + t->begin};
        memcpy(x->dtype, t->dtype, sizeof x->dtype);
    }
    b->file_count++;
    st_close(&f);
    return 0;
}

static int read_base(struct pack_base *b, bool tensors)
{
    struct pack_index files = {.step = -1};
    struct manifest m = {0};
    int rc = 0;
    if (is_step_dir(b->dir)) {
        rc = manifest_read(&m, b->dir);
        b->sum = m.sum;
    }
    if (rc == 0)
        rc = tree_walk(&files, b->dir);
    for (int i = 0; i < files.file_count && rc == 0; i++) {
        const struct packed_file *f = &files.files[i];
        if (!m.count) {
            char *line = xasprintf("%s %" PRId64 "\n", f->name, f->bytes);
            b->sum = sum_bytes(b->sum, line, (int64_t)strlen(line));
            free(line);
        }
        if (tensors && tree_is_safetensors(f->name))
            rc = add_file(b, f->name);
    }
    if (rc == 0 && tensors && !b->count)
        rc = error(STATUS_USAGE, "'%s' holds no safetensors files", b->dir);
    manifest_release(&m);
    index_release(&files);
    return rc;
}

int base_open(struct pack_base *b, const char *dir, bool tensors)
{
    *b = (struct pack_base){.dir = xstrdup(dir)};
    int rc = read_base(b, tensors);
    if (b->count)
        qsort(b->tensors, b->count, sizeof *b->tensors, by_name);
    if (rc < 0)
        base_release(b);
    return rc;
}

void base_release(struct pack_base *b)
{
    for (int i = 0; i < b->count; i++)
        free(b->tensors[i].name);
    for (int i = 0; i < b->file_count; i++)
        free(b->files[i]);
    free(b->tensors);
    free(b->files);
    free(b->dir);
    *b = (struct pack_base){0};
}

const struct base_tensor *base_find(const struct pack_base *b, const struct st_tensor *t)
{
    struct base_tensor key = {.name = t->name};
    const struct base_tensor *x = b->count ? bsearch(&key, b->tensors, b->count, sizeof key, by_name) : NULL;
    return x && strcmp(x->dtype, t->dtype) == 0 && x->bytes == t->end - t->begin ? x : NULL;
}

int kept_read(struct kept_file *k, const char *dir, const char *name, void *p, int64_t bytes, int64_t at)
{
    char *path = path_join(dir, name);
    int rc = 0;
    if (k->fd < 0 || strcmp(k->name, name) != 0) {
        kept_close(k);
        k->fd = open(path, O_RDONLY | O_CLOEXEC);
        k->name = xstrdup(name);
        rc = k->fd < 0 ? error_errno("cannot open '%s'", path) : 0;
    }
    if (rc == 0)
        rc = pread_all(k->fd, p, (size_t)bytes, at, path);
    free(path);
    return rc;
}

void kept_close(struct kept_file *k)
{
    if (k->fd >= 0)
        close(k->fd);
    free(k->name);
    *k = (struct kept_file){.fd = -1};
}

/* The first span of the file that ends behind `from`. */
static int span_at(const struct packed_file *f, int64_t from)
{
    int low = 0, high = f->span_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (f->spans[middle].end <= from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Bytes [from,end) of the file, at p. */
static int xor_piece(struct kept_file *k, const char *dir, const struct packed_file *f, int64_t from,
                     int64_t end, uint8_t *p, uint8_t *scratch)
{
    for (int i = span_at(f, from); i < f->span_count && f->spans[i].begin < end; i++) {
        const struct packed_span *s = &f->spans[i];
        int64_t begin = max64(s->begin, from), n = min64(s->end, end) - begin;
        if (!s->base)
            continue;
        TRY(kept_read(k, dir, s->base, scratch, n, s->at + begin - s->begin));
        for (int64_t b = 0; b < n; b++)
            p[begin - from + b] ^= scratch[b];
    }
    return 0;
}

int base_xor(struct kept_file *k, const char *dir, const struct packed_file *f, int64_t at, int64_t n,
             uint8_t *p, uint8_t *scratch)
{
    for (int64_t done = 0; done < n;) {
        int64_t piece = n - done, from = packed_place(f, at + done, &piece);
        TRY(xor_piece(k, dir, f, from, from + piece, p + done, scratch));
        done += piece;
    }
    return 0;
}

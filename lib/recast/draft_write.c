/* SPDX-License-Identifier: MIT */
/* A draft becomes files. */
#include "recast/draft.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "tensors/sum.h"

#define CHUNK ((int64_t)1 << 20) /* numbers at a time */

struct draft_writer {
    struct draft *d;
    const char *doing;
    char *raw, *converted; /* CHUNK numbers each */
    FILE *stream;
    const char *path;
    int64_t at; /* bytes of the file that are written */
    uint32_t crc32;
    uint64_t drawn; /* numbers, of all tensors: where the generator stands */
};

static const char *dtype_name(enum number n)
{
    return n == NUMBER_F32 ? "F32" : n == NUMBER_BF16 ? "BF16" : "F16";
}

/* Wider numbers first, so that every tensor lies at a multiple of its number's size; else as they came. */
static int list_file(const struct draft *d, int file, int *list)
{
    int count = 0;
    for (int bytes = 4; bytes >= 2; bytes -= 2)
        for (int i = 0; i < d->count; i++)
            if (d->list[i].file == file && number_bytes(d->list[i].to) == bytes)
                list[count++] = i;
    return count;
}

/* Size word and JSON, padded with blanks to 8 bytes. */
static char *header_text(const struct draft *d, const int *list, int count, size_t *size)
{
    char *text;
    int64_t at = 0;
    json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
    for (int i = 0; i < count; i++) {
        const struct made_tensor *m = &d->list[list[i]];
        json_t *shape = json_array();
        for (int k = 0; k < m->dims; k++)
            json_array_append_new(shape, json_integer(m->shape[k]));
        json_object_set_new(root, m->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", dtype_name(m->to), "shape", shape,
                                      "data_offsets", (json_int_t)at, (json_int_t)(at + m->bytes)));
        at += m->bytes;
    }
    FILE *out = open_memstream(&text, size);
    fprintf(out, "........");
    json_dumpf(root, out, JSON_COMPACT);
    while (ftell(out) % 8)
        fputc(' ', out);
    fclose(out);
    json_decref(root);
    for (int i = 0; i < 8; i++)
        text[i] = (char)((uint64_t)(*size - 8) >> 8 * i);
    return text;
}

static int put(struct draft_writer *w, const void *p, int64_t bytes)
{
    w->crc32 = sum_bytes(w->crc32, p, (size_t)bytes);
    if (fwrite(p, 1, (size_t)bytes, w->stream) != (size_t)bytes)
        return error_errno("cannot write '%s'", w->path);
    alive();
    w->at += bytes;
    w->d->written += bytes;
    progress(w->doing, (uint64_t)w->d->written >> 20, (uint64_t)w->d->total >> 20, "MiB");
    return 0;
}

/* A uniform number in (0,1] for each place of a sequence (splitmix64). */
static double uniform(uint64_t i)
{
    uint64_t x = (i + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (double)(((x ^ x >> 31) >> 11) + 1) * 0x1p-53;
}

static void draw(struct draft_writer *w, float *f, int64_t count, double std)
{
    for (int64_t i = 0; i < count; i++, w->drawn++)
        f[i] = (float)(std * sqrt(-2 * log(uniform(2 * w->drawn))) *
                       cos(2 * 3.14159265358979323846 * uniform(2 * w->drawn + 1)));
}

/* Numbers [first, first+n) of the piece, as they are in its file, into w->raw. */
static int read_piece(struct draft_writer *w, const struct piece *p, int64_t first, int64_t n)
{
    if (p->dir)
        return hf_read(p->dir, p->file, w->raw, n * number_bytes(p->from),
                       p->offset + first * number_bytes(p->from));
    draw(w, (float *)w->raw, n, p->std);
    return 0;
}

/* The mean of those numbers of the piece and the others, f32, into w->raw. */
static int read_mean(struct draft_writer *w, const struct piece *p, int64_t first, int64_t n)
{
    double *sum = xcalloc((size_t)n, sizeof *sum);
    float *f = (float *)w->converted;
    int rc = 0;
    for (int k = -1; k < p->other_count && rc == 0; k++) {
        const struct piece *one = k < 0 ? p : &p->others[k];
        rc = read_piece(w, one, first, n);
        convert(f, F32, w->raw, one->from, n);
        for (int64_t i = 0; i < n; i++)
            sum[i] += (double)f[i];
    }
    for (int64_t i = 0; i < n; i++)
        ((float *)w->raw)[i] = (float)(sum[i] / (p->other_count + 1));
    free(sum);
    return rc;
}

static int put_piece(struct draft_writer *w, const struct piece *p, enum number to)
{
    enum number from = p->dir && !p->others ? p->from : NUMBER_F32;
    for (int64_t done = 0, n; done < p->count; done += n) {
        n = min64(CHUNK, p->count - done);
        TRY(p->others ? read_mean(w, p, done, n) : read_piece(w, p, done, n));
        if (from != to)
            convert(w->converted, to == NUMBER_F32 ? F32 : BF16, w->raw, from, n);
        TRY(put(w, from == to ? w->raw : w->converted, n * number_bytes(to)));
    }
    return 0;
}

static int put_tensor(struct draft_writer *w, struct made_tensor *m)
{
    int64_t end = w->at + m->bytes;
    w->crc32 = 0;
    for (int i = 0; i < m->count; i++)
        TRY(put_piece(w, &m->pieces[i], m->to));
    m->crc32 = w->crc32;
    return w->at == end ? 0 : error(STATUS_USAGE, "tensor '%s': its parts do not make it whole", m->name);
}

static int put_tensors(struct draft_writer *w, const int *list, int count, struct manifest_file *f)
{
    size_t size;
    char *header = header_text(w->d, list, count, &size);
    w->crc32 = 0;
    int rc = put(w, header, (int64_t)size);
    uint32_t whole = w->crc32;
    free(header);
    for (int i = 0; i < count && rc == 0; i++) {
        struct made_tensor *m = &w->d->list[list[i]];
        rc = put_tensor(w, m);
        whole = sum_join(whole, m->crc32, m->bytes);
        if (f)
            f->tensors[f->count++] = (struct manifest_tensor){.name = xstrdup(m->name), .crc32 = m->crc32};
    }
    if (f)
        f->crc32 = whole;
    return rc;
}

static int sync_stream(FILE *stream, const char *path)
{
    return fflush(stream) != 0 ? error_errno("cannot write '%s'", path) : file_sync(fileno(stream), path);
}

static int put_file(struct draft_writer *w, int file, const char *dir, struct manifest *m)
{
    struct draft_file *x = &w->d->files[file];
    int *list = xcalloc(w->d->count, sizeof *list), count = list_file(w->d, file, list);
    char *path = path_join(dir, x->name);
    struct manifest_file *f = m ? manifest_add(m, xstrdup(x->name), 0, 0) : NULL;
    if (f)
        f->tensors = xcalloc(count, sizeof *f->tensors);
    w->path = path;
    w->at = 0;
    w->stream = fopen(path, "wbxe");
    int rc = w->stream ? put_tensors(w, list, count, f) : error_errno("cannot write '%s'", path);
    if (rc == 0)
        rc = sync_stream(w->stream, path);
    if (w->stream && fclose(w->stream) != 0 && rc == 0)
        rc = error_errno("cannot write '%s'", path);
    x->bytes = w->at;
    if (f)
        f->bytes = w->at;
    free(path);
    free(list);
    return rc;
}

static int put_index(const struct draft *d, const char *dir, struct manifest *m)
{
    json_t *map = json_object();
    int64_t total = 0;
    for (int i = 0; i < d->count; i++) {
        const struct made_tensor *x = &d->list[i];
        if (strchr(d->files[x->file].name, '/'))
            continue;
        json_object_set_new(map, x->name, json_string(d->files[x->file].name));
        total += x->bytes;
    }
    json_t *root = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char *text = json_dumps(root, JSON_INDENT(2));
    int rc = manifest_put(m, dir, INDEX_FILE, text, strlen(text));
    free(text);
    json_decref(root);
    return rc;
}

static struct draft_writer writer_of(struct draft *d, const char *doing)
{
    d->written = 0;
    d->total = draft_bytes(d);
    return (struct draft_writer){.d = d,
                                 .doing = doing,
                                 .drawn = d->seed << 40,
                                 .raw = xmalloc(4 * CHUNK),
                                 .converted = xmalloc(4 * CHUNK)};
}

static void writer_end(struct draft_writer *w)
{
    progress_end();
    free(w->raw);
    free(w->converted);
}

int draft_write(struct draft *d, const char *dir, struct manifest *m, const char *doing)
{
    struct draft_writer w = writer_of(d, doing);
    int rc = 0;
    for (int f = 0; f < d->file_count && rc == 0; f++)
        rc = put_file(&w, f, dir, m);
    writer_end(&w);
    if (rc == 0 && strcmp(d->files[0].name, SINGLE_FILE) != 0)
        rc = put_index(d, dir, m);
    return rc;
}

int draft_write_stream(struct draft *d, FILE *stream, const char *name, const char *doing)
{
    struct draft_writer w = writer_of(d, doing);
    int *list = xcalloc(d->count, sizeof *list), count = list_file(d, 0, list);
    w.stream = stream;
    w.path = name;
    int rc = put_tensors(&w, list, count, NULL);
    writer_end(&w);
    free(list);
    return rc;
}

/* SPDX-License-Identifier: MIT */
#include "ckpt/manifest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/json.h"
#include "base/memory.h"
#include "ckpt/names.h"
#include "tensors/sum.h"

#define SUM_FORMAT ",\n  \"sum\": \"%08" PRIx32 "\"\n}\n"

struct manifest_file *manifest_add(struct manifest *m, char *name, int64_t bytes, uint32_t crc)
{
    if ((m->count & (m->count + 1)) == 0)
        m->files = xrealloc(m->files, 2 * (size_t)m->count + 2, sizeof *m->files);
    m->files[m->count] = (struct manifest_file){.name = name, .bytes = bytes, .crc32 = crc};
    return &m->files[m->count++];
}

int manifest_put(struct manifest *m, const char *dir, const char *name, const char *text, size_t bytes)
{
    char *path = path_join(dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? error_errno("cannot write '%s'", path) : pwrite_all(fd, text, (int64_t)bytes, 0, path);
    if (rc == 0)
        rc = file_sync(fd, path);
    if (fd >= 0)
        close(fd);
    free(path);
    if (rc == 0 && m)
        manifest_add(m, xstrdup(name), (int64_t)bytes, sum_bytes(0, text, bytes));
    return rc;
}

int64_t manifest_bytes(const struct manifest *m)
{
    int64_t bytes = 0;
    for (int i = 0; i < m->count; i++)
        bytes += m->files[i].bytes;
    return bytes;
}

const struct manifest_file *manifest_find(const struct manifest *m, const char *name)
{
    for (int i = 0; i < m->count; i++)
        if (strcmp(m->files[i].name, name) == 0)
            return &m->files[i];
    return NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct manifest_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

const struct manifest_tensor *manifest_tensor(const struct manifest_file *f, const char *name)
{
    struct manifest_tensor key = {.name = (char *)(uintptr_t)name};
    return f->count ? bsearch(&key, f->tensors, (size_t)f->count, sizeof key, by_name) : NULL;
}

/* As a JSON string. Names come from file systems too. */
static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', f);
        if ((unsigned char)*text < 0x20)
            fprintf(f, "\\u%04x", *text);
        else
            fputc(*text, f);
    }
    fputc('"', f);
}

static void put_tensors(FILE *out, const struct manifest_file *f)
{
    fprintf(out, ", \"tensors\": {");
    for (int t = 0; t < f->count; t++) {
        fprintf(out, "%s\n      ", t ? "," : "");
        put_string(out, f->tensors[t].name);
        fprintf(out, ": \"%08" PRIx32 "\"", f->tensors[t].crc32);
    }
    fputc('}', out);
    const char *before = ", \"ranges\": {";
    for (int t = 0; t < f->count; t++) {
        const struct manifest_tensor *x = &f->tensors[t];
        if (!x->ranges)
            continue;
        fprintf(out, "%s\n      ", before);
        put_string(out, x->name);
        fputs(": \"", out);
        for (int i = 0; i < x->range_count; i++)
            fprintf(out, "%08" PRIx32, x->ranges[i]);
        fputc('"', out);
        before = ",";
    }
    if (*before == ',' && !before[1])
        fputc('}', out);
}

char *manifest_text(const struct manifest *m)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    fprintf(f, "{\n  \"%s\": %d,\n  \"step\": %" PRId64, manifest_format.key, manifest_format.version, m->step);
    if (m->range)
        fprintf(f, ",\n  \"range\": %" PRId64, m->range);
    fprintf(f, ",\n  \"files\": {");
    for (int i = 0; i < m->count; i++) {
        const struct manifest_file *x = &m->files[i];
        fprintf(f, "%s\n    ", i ? "," : "");
        put_string(f, x->name);
        fprintf(f, ": {\"bytes\": %" PRId64 ", \"crc32\": \"%08" PRIx32 "\"", x->bytes, x->crc32);
        if (x->tensors)
            put_tensors(f, x);
        fputc('}', f);
    }
    fprintf(f, "\n  }");
    fflush(f);
    fprintf(f, SUM_FORMAT, sum_bytes(0, text, size));
    fclose(f);
    return text;
}

static int bad(const char *path, const char *what)
{
    return error(STATUS_USAGE, "%s: %s", path, what);
}

/* `count` checksums, one behind the other. */
static bool read_crcs(const json_t *v, uint32_t *crc, size_t count)
{
    const char *text = json_string_value(v);
    char one[9] = "";
    if (!text || strlen(text) != 8 * count || strspn(text, "0123456789abcdef") != 8 * count)
        return false;
    for (size_t i = 0; i < count; i++)
        crc[i] = (uint32_t)strtoul(memcpy(one, text + 8 * i, 8), NULL, 16);
    return true;
}

/* "ranges", of tensors that are there. */
static int read_ranges(const struct manifest *m, struct manifest_file *f, const json_t *ranges,
                       const char *path)
{
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)ranges, name, v)
    {
        struct manifest_tensor *t = (struct manifest_tensor *)(uintptr_t)manifest_tensor(f, name);
        size_t count = json_string_length(v) / 8;
        if (!m->range || !t || count < 2 || count > INT_MAX)
            return bad(path, "has ranges of what is no long tensor");
        t->ranges = xcalloc(count, sizeof *t->ranges);
        t->range_count = (int)count;
        if (!read_crcs(v, t->ranges, count))
            return bad(path, "a range's crc32 is not eight hexadecimal digits");
    }
    return 0;
}

static int read_file(struct manifest *m, const char *name, const json_t *v, const char *path)
{
    const json_t *bytes = json_object_get(v, "bytes"), *crc;
    struct manifest_file *f = manifest_add(m, xstrdup(name), json_integer_value(bytes), 0);
    if (!json_is_integer(bytes) || f->bytes < 0 || !read_crcs(json_object_get(v, "crc32"), &f->crc32, 1))
        return bad(path, "a file's entry has no good size and crc32");
    if (name[0] == '/' || strstr(name, ".."))
        return bad(path, "a file's name leads out of the directory");
    json_t *tensors = json_object_get(v, "tensors");
    if (!tensors)
        return 0;
    const char *key;
    f->tensors = xcalloc(json_object_size(tensors), sizeof *f->tensors);
    json_object_foreach(tensors, key, crc)
    {
        f->tensors[f->count++].name = xstrdup(key);
        if (!read_crcs(crc, &f->tensors[f->count - 1].crc32, 1))
            return bad(path, "a tensor's crc32 is not eight hexadecimal digits");
    }
    qsort(f->tensors, f->count, sizeof *f->tensors, by_name);
    return read_ranges(m, f, json_object_get(v, "ranges"), path);
}

static int read_text(struct manifest *m, const char *text, size_t size, const char *path)
{
    char sum[64];
    if (size < MANIFEST_SUM_BYTES)
        return bad(path, "is truncated");
    m->sum = sum_bytes(0, text, size - MANIFEST_SUM_BYTES);
    snprintf(sum, sizeof sum, SUM_FORMAT, m->sum);
    if (strlen(sum) != MANIFEST_SUM_BYTES ||
        memcmp(text + size - MANIFEST_SUM_BYTES, sum, MANIFEST_SUM_BYTES) != 0)
        return bad(path, "its sum does not match its text: it is damaged or was edited");
    struct json_doc d;
    if (json_open(&d, text, size, path) < 0)
        return -1;
    const char *name;
    json_t *v, *files = json_object_get(d.root, "files");
    int rc = format_check(&manifest_format, &d);
    m->refused = rc < 0;
    if (rc == 0)
        rc = json_need_int(&d, d.root, "step", 0, INT64_MAX, &m->step) < 0 ? -1 : 0;
    if (rc == 0 && json_object_get(d.root, "range"))
        rc = json_need_int(&d, d.root, "range", 1, (int64_t)1 << 40, &m->range) < 0 ? -1 : 0;
    if (rc == 0 && m->range % 8)
        rc = bad(path, "a range is no multiple of 8 bytes");
    if (rc == 0 && !json_is_object(files))
        rc = bad(path, "has no files");
    json_object_foreach(files, name, v) if (rc == 0) rc = read_file(m, name, v, path);
    json_close(&d);
    return rc;
}

int manifest_parse(struct manifest *m, const char *text, size_t bytes, const char *where)
{
    *m = (struct manifest){0};
    int rc = read_text(m, text, bytes, where);
    bool refused = m->refused;
    if (rc < 0)
        manifest_release(m);
    m->refused = refused;
    return rc;
}

int manifest_read(struct manifest *m, const char *dir)
{
    *m = (struct manifest){0};
    size_t size;
    char *path = path_join(dir, MANIFEST_FILE), *text = file_read(path, MAX_MANIFEST_BYTES, &size);
    int rc = text ? manifest_parse(m, text, size, path) : -1;
    free(text);
    free(path);
    return rc;
}

void manifest_release(struct manifest *m)
{
    for (int i = 0; i < m->count; i++) {
        for (int t = 0; t < m->files[i].count; t++) {
            free(m->files[i].tensors[t].name);
            free(m->files[i].tensors[t].ranges);
        }
        free(m->files[i].tensors);
        free(m->files[i].name);
    }
    free(m->files);
    *m = (struct manifest){0};
}

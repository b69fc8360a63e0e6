/* SPDX-License-Identifier: MIT */
#include "tensors/hfdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"

#define MAX_INDEX ((size_t)256 << 20)
#define MOST_OPEN 64 /* descriptors */

int hf_file_named(struct hf_dir *d, const char *name)
{
    for (int i = d->file_count - 1; i >= 0; i--)
        if (strcmp(d->files[i].name, name) == 0)
            return i;
    if ((d->file_count & (d->file_count + 1)) == 0)
        d->files = xrealloc(d->files, 2 * (size_t)d->file_count + 2, sizeof *d->files);
    d->files[d->file_count] = (struct hf_file){.name = xstrdup(name), .st.fd = -1};
    return d->file_count++;
}

static void add_name(struct hf_dir *d, const char *name, int file)
{
    if ((d->name_count & (d->name_count + 1)) == 0)
        d->names = xrealloc(d->names, 2 * (size_t)d->name_count + 2, sizeof *d->names);
    d->names[d->name_count++] = (struct hf_name){xstrdup(name), file};
}

static int by_name(const void *a, const void *b)
{
    const struct hf_name *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Descriptors are few: the one longest unused gives way. */
static void spare_descriptor(struct hf_dir *d)
{
    if (d->open_count < MOST_OPEN)
        return;
    struct hf_file *oldest = NULL;
    for (int i = 0; i < d->file_count; i++)
        if (d->files[i].st.fd >= 0 && (!oldest || d->files[i].turn < oldest->turn))
            oldest = &d->files[i];
    close(oldest->st.fd);
    oldest->st.fd = -1;
    d->open_count--;
}

const struct st_file *hf_file(struct hf_dir *d, int file)
{
    struct hf_file *f = &d->files[file];
    if (f->why) {
        error(f->status, "%s", f->why);
        return NULL;
    }
    if (!f->open) {
        spare_descriptor(d);
        char *path = path_join(d->path, f->name);
        int rc = st_open(&f->st, path);
        free(path);
        if (rc < 0) {
            f->why = xstrdup(error_text());
            f->status = error_status();
            return NULL;
        }
        f->open = true;
        f->turn = ++d->turn;
        d->open_count++;
    }
    return &f->st;
}

int hf_read(struct hf_dir *d, int file, void *p, int64_t bytes, int64_t offset)
{
    struct hf_file *f = &d->files[file];
    if (!hf_file(d, file))
        return -1;
    if (f->st.fd < 0) {
        spare_descriptor(d);
        f->st.fd = open(f->st.path, O_RDONLY | O_CLOEXEC);
        if (f->st.fd < 0)
            return error_errno("cannot open '%s'", f->st.path);
        d->open_count++;
    }
    f->turn = ++d->turn;
    return pread_all(f->st.fd, p, bytes, f->st.data + offset, f->st.path);
}

/* Of what the header says: names, dtypes, shapes, places. */
static uint32_t sum_header(const struct st_file *f)
{
    char shape[192];
    uLong crc = 0;
    for (int i = 0; i < f->count; i++) {
        const struct st_tensor *t = &f->tensors[i];
        char *line =
            xasprintf("%s %s %s %lld\n", t->name, t->dtype, st_shape_text(t, shape), (long long)t->begin);
        crc = crc32_z(crc, (const Bytef *)line, strlen(line));
        free(line);
    }
    return (uint32_t)crc;
}

/* Of a little at the begin, in the middle and at the end of the data. */
static int sum_samples(struct hf_dir *d, int file, uint32_t *crc)
{
    char sample[1 << 14];
    const struct st_file *f = &d->files[file].st;
    int64_t bytes = f->size - f->data, n = min64(bytes, sizeof sample);
    *crc = 0;
    for (int i = 0; i < 3 && n; i++) {
        TRY(hf_read(d, file, sample, n, (bytes - n) / 2 * i));
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)sample, (size_t)n);
    }
    return 0;
}

char *hf_seen(struct hf_dir *d, bool all)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int r = 0;
    for (int i = 0; i < d->file_count && r == 0; i++) {
        uint32_t samples;
        if (!all && !d->files[i].open)
            continue;
        const struct st_file *f = hf_file(d, i);
        r = f ? sum_samples(d, i, &samples) : -1;
        if (r == 0) {
            char *path = path_absolute(f->path);
            fprintf(out, "%s: %lld bytes, tensors %08x, samples %08x\n", path, (long long)f->size,
                    sum_header(f), samples);
            free(path);
        }
    }
    fclose(out);
    if (r == 0)
        return text;
    free(text);
    return NULL;
}

static const struct hf_name *find_name(const struct hf_dir *d, const char *name)
{
    struct hf_name key = {(char *)(uintptr_t)name};
    return d->name_count ? bsearch(&key, d->names, d->name_count, sizeof *d->names, by_name) : NULL;
}

bool hf_has(const struct hf_dir *d, const char *name)
{
    return find_name(d, name) != NULL;
}

const struct st_tensor *hf_find(struct hf_dir *d, const char *name, int *file, bool *failed)
{
    const struct hf_name *n = find_name(d, name);
    *failed = false;
    if (!n)
        return NULL;
    const struct st_file *f = hf_file(d, n->file);
    const struct st_tensor *t = f ? st_find(f, name) : NULL;
    *file = n->file;
    *failed = !t;
    if (f && !t)
        error(STATUS_USAGE, "%s: tensor '%s' is not in '%s', where the index says it is", d->path, name,
              f->path);
    return t;
}

static int read_index(struct hf_dir *d, const char *path)
{
    struct json_doc j;
    if (json_open_file(&j, path, MAX_INDEX) < 0)
        return -1;
    json_t *map = json_object_get(j.root, "weight_map"), *v;
    const char *name;
    int rc = json_is_object(map) ? 0 : json_bad(&j, "weight_map", "is missing or not an object");
    json_object_foreach(map, name, v)
    {
        const char *file = json_string_value(v);
        if (rc < 0)
            break;
        if (!file || !*file || strchr(file, '/'))
            rc = json_bad(&j, name, "is not in a file of this directory");
        else
            add_name(d, name, hf_file_named(d, file));
    }
    json_close(&j);
    d->indexed = true;
    return rc;
}

static int file_order(const void *a, const void *b)
{
    const struct hf_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int list_files(struct hf_dir *d)
{
    DIR *dir = opendir(d->path);
    if (!dir)
        return error_errno("cannot open '%s'", d->path);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t n = strlen(e->d_name);
        if (e->d_name[0] != '.' && n > 12 && strcmp(e->d_name + n - 12, ".safetensors") == 0)
            hf_file_named(d, e->d_name);
    }
    closedir(dir);
    qsort(d->files, d->file_count, sizeof *d->files, file_order);
    return d->file_count ? 0 : error(STATUS_USAGE, "'%s' holds no safetensors files", d->path);
}

static int read_headers(struct hf_dir *d)
{
    char *single = path_join(d->path, "model.safetensors");
    int rc = file_exists(single) ? (hf_file_named(d, "model.safetensors"), 0) : list_files(d);
    free(single);
    for (int i = 0; i < d->file_count && rc == 0; i++) {
        const struct st_file *f = hf_file(d, i);
        for (int t = 0; f && t < f->count; t++)
            add_name(d, f->tensors[t].name, i);
        rc = f ? 0 : -1;
    }
    return rc;
}

int hf_open(struct hf_dir *d, const char *path)
{
    *d = (struct hf_dir){.path = xstrdup(path)};
    char *index = path_join(path, INDEX_FILE);
    int rc = file_exists(index) ? read_index(d, index) : read_headers(d);
    free(index);
    if (d->name_count)
        qsort(d->names, d->name_count, sizeof *d->names, by_name);
    for (int i = 1; i < d->name_count && rc == 0; i++)
        if (strcmp(d->names[i].name, d->names[i - 1].name) == 0)
            rc = error(STATUS_USAGE, "%s: tensor '%s' is in '%s' and in '%s'", path, d->names[i].name,
                       d->files[d->names[i - 1].file].name, d->files[d->names[i].file].name);
    if (rc < 0)
        hf_close(d);
    return rc;
}

void hf_close(struct hf_dir *d)
{
    for (int i = 0; i < d->file_count; i++) {
        if (d->files[i].open)
            st_close(&d->files[i].st);
        free(d->files[i].name);
        free(d->files[i].why);
    }
    for (int i = 0; i < d->name_count; i++)
        free(d->names[i].name);
    free(d->files);
    free(d->names);
    free(d->path);
    *d = (struct hf_dir){0};
}

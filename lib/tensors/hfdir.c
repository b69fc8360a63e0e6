/* SPDX-License-Identifier: MIT */
#include "tensors/hfdir.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/words.h"
#include "tensors/sum.h"

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
    uint32_t crc = 0;
    for (int i = 0; i < f->count; i++) {
        const struct st_tensor *t = &f->tensors[i];
        char *line =
            xasprintf("%s %s %s %lld\n", t->name, t->dtype, st_shape_text(t, shape), (long long)t->begin);
        crc = sum_bytes(crc, line, strlen(line));
        free(line);
    }
    return crc;
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
        *crc = sum_bytes(*crc, sample, n);
    }
    return 0;
}

char *hf_seen(struct hf_dir *d)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int r = 0;
    for (int i = 0; i < d->file_count && r == 0; i++) {
        uint32_t samples;
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

int hf_name_from(const struct hf_dir *d, const char *name)
{
    int low = 0, high = d->name_count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (strcmp(d->names[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
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
    size_t bytes;
    char *text = file_read(path, MAX_INDEX, &bytes);
    d->index_crc = text ? sum_bytes(0, text, bytes) : 0;
    int opened = text ? json_open(&j, text, bytes, path) : -1;
    free(text);
    TRY(opened);
    json_t *map = json_object_get(j.root, "weight_map"), *v;
    const char *name;
    int rc = json_is_object(map) ? 0 : json_bad(&j, "weight_map", "is missing or not an object");
    if (rc == 0 && !json_is_object(json_object_get(j.root, "metadata")))
        rc = json_bad(&j, "metadata", "is missing or not an object");
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
    return rc;
}

static int file_order(const void *a, const void *b)
{
    const struct hf_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Weights, or what says where they are, in the forms that transformers looks for. */
static bool holds_weights(const char *name)
{
    return name[0] != '.' && (ends_in(name, ".safetensors") || ends_in(name, ".safetensors.index.json") ||
                              (strncmp(name, "pytorch_model", 13) == 0 && ends_in(name, ".bin")));
}

static bool is_read(const struct hf_dir *d, const char *name)
{
    for (int i = 0; i < d->file_count; i++)
        if (strcmp(d->files[i].name, name) == 0)
            return true;
    return false;
}

/* All names of weights in the directory, sorted: into *names. The count, or -1. */
static int list_weights(const struct hf_dir *d, char ***names)
{
    int count = 0;
    struct folder f;
    *names = NULL;
    TRY(folder_open(&f, d->path));
    for (const char *name; (name = folder_next(&f));) {
        if (!holds_weights(name))
            continue;
        if ((count & (count + 1)) == 0)
            *names = xrealloc(*names, 2 * (size_t)count + 2, sizeof **names);
        (*names)[count++] = xstrdup(name);
    }
    if (folder_close(&f, 0) < 0) {
        while (count > 0)
            free((*names)[--count]);
        return -1;
    }
    if (count)
        qsort(*names, count, sizeof **names, text_order);
    return count;
}

static int read_headers(struct hf_dir *d)
{
    qsort(d->files, d->file_count, sizeof *d->files, file_order);
    for (int i = 0; i < d->file_count; i++) {
        const struct st_file *f = hf_file(d, i);
        if (!f)
            return -1;
        for (int t = 0; t < f->count; t++)
            add_name(d, f->tensors[t].name, i);
    }
    return 0;
}

static void note_unread(struct hf_dir *d, char **found, int count, bool indexed)
{
    d->unread = xcalloc(count, sizeof *d->unread);
    for (int i = 0; i < count; i++)
        if (!is_read(d, found[i]) && !(indexed && strcmp(found[i], INDEX_FILE) == 0))
            d->unread[d->unread_count++] = xstrdup(found[i]);
}

void hf_say_unread(const struct hf_dir *d)
{
    char more[48] = "";
    if (!d->unread_count)
        return;
    if (d->unread_count > 1)
        snprintf(more, sizeof more, " and %d file%s more", d->unread_count - 1, plural(d->unread_count - 1));
    notice("%s: %s, as transformers does, and not %s%s", d->path,
           is_read(d, SINGLE_FILE) ? SINGLE_FILE " is read" : "what " INDEX_FILE " names is read", d->unread[0],
           more);
}

static int read_dir(struct hf_dir *d)
{
    char *index = path_join(d->path, INDEX_FILE), *single = path_join(d->path, SINGLE_FILE), **found;
    bool one = file_exists(single), indexed = !one && file_exists(index);
    int count = list_weights(d, &found), rc = count < 0 ? -1 : 0;
    d->loose = !one && !indexed;
    if (one)
        hf_file_named(d, SINGLE_FILE);
    for (int i = 0; i < count && d->loose; i++)
        if (ends_in(found[i], ".safetensors"))
            hf_file_named(d, found[i]);
    if (rc == 0 && !d->file_count && !indexed)
        rc = error(STATUS_USAGE, "'%s' holds no safetensors files", d->path);
    if (rc == 0)
        rc = indexed ? read_index(d, index) : read_headers(d);
    if (rc == 0 && !d->loose)
        note_unread(d, found, count, indexed);
    for (int i = 0; i < count; i++)
        free(found[i]);
    free(found);
    free(index);
    free(single);
    return rc;
}

int hf_open(struct hf_dir *d, const char *path)
{
    *d = (struct hf_dir){.path = xstrdup(path)};
    int rc = read_dir(d);
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
    for (int i = 0; i < d->unread_count; i++)
        free(d->unread[i]);
    free(d->unread);
    free(d->files);
    free(d->names);
    free(d->path);
    *d = (struct hf_dir){0};
}

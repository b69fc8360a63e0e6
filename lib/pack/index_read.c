/* SPDX-License-Identifier: MIT */
/* Reads an index. Nothing in it is believed until it has been checked. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/record.h"
#include "pack/index.h"

struct index_reading {
    struct pack_index *ix;
    struct records r;
    bool has_pack;
};

enum {
    NAME_ROOM = 1024,
    MOST_LINE = 16 << 10, /* bytes of a record, which bounds the table of its words */
};

static int read_version(struct index_reading *d)
{
    int64_t version;
    int got = record_next(&d->r);
    if (got < 0)
        return -1;
    if (got == 0 || strcmp(d->r.kind, "moe-archive") != 0)
        return record_bad(&d->r, "not the index of a moe-archive");
    TRY(record_int(&d->r, NULL, 1, INT64_MAX, &version));
    d->ix->newer = version > 1;
    if (d->ix->newer)
        return record_bad(&d->r,
                          "of version %lld, and moekit " VERSION " reads version 1: a newer moekit is needed",
                          (long long)version);
    return record_end(&d->r);
}

static int read_pack(struct index_reading *d)
{
    struct pack_index *ix = d->ix;
    int codec;
    if (d->has_pack)
        return record_bad(&d->r, "a second record 'pack'");
    d->has_pack = true;
    TRY(record_choice(&d->r, "codec", &codec_words, &codec));
    TRY(record_int(&d->r, "part-bytes", MIN_PART_BYTES, MAX_PART_BYTES, &ix->part_bytes));
    ix->codec = (enum codec)codec;
    ix->step = -1;
    for (int i = 0; i < d->r.count; i++)
        if (d->r.words[i].key && strcmp(d->r.words[i].key, "step") == 0)
            TRY(record_int(&d->r, "step", 0, INT64_MAX, &ix->step));
    return 0;
}

static int read_base(struct index_reading *d)
{
    char name[NAME_ROOM];
    if (d->ix->base)
        return record_bad(&d->r, "a second record 'base'");
    TRY(record_text(&d->r, "name", name, sizeof name));
    d->ix->base = xstrdup(name);
    return record_hex32(&d->r, "sum", &d->ix->base_sum);
}

/* A list of numbers as ranges_text() writes it, if it is there. */
static int read_numbers(struct index_reading *d, const char *key, char **text)
{
    struct record_word *w = record_take(&d->r, key);
    if (w && (!*w->value || w->value[strspn(w->value, "0123456789,-")]))
        return record_bad_word(&d->r, w, "'%.40s' is no list of numbers", w->value);
    *text = w ? xstrdup(w->value) : NULL;
    return 0;
}

static int read_experts(struct index_reading *d)
{
    struct record_word *w = record_take(&d->r, NULL);
    if (d->ix->experts || !w || strlen(w->value) > 4096 || w->value[strspn(w->value, "0123456789,-:")])
        return record_bad(&d->r, "'experts' is there twice or has no list");
    d->ix->experts = xstrdup(w->value);
    return 0;
}

static int read_stamp(struct index_reading *d, int *mode, int64_t *mtime, int *ns)
{
    int64_t nanoseconds;
    struct record_word *w = record_take(&d->r, "mode");
    if (!w)
        return record_bad(&d->r, "key 'mode' is missing");
    if (strlen(w->value) != 3 || strspn(w->value, "01234567") != 3)
        return record_bad_word(&d->r, w, "mode '%.20s' is not three octal digits", w->value);
    *mode = (int)strtol(w->value, NULL, 8);
    TRY(record_int(&d->r, "mtime", INT64_MIN / 4, INT64_MAX / 4, mtime));
    TRY(record_int(&d->r, "ns", 0, 999999999, &nanoseconds));
    *ns = (int)nanoseconds;
    return 0;
}

/* The record's name; NULL with error(). */
static char *read_name(struct index_reading *d, bool dir)
{
    char name[NAME_ROOM];
    if (record_text(&d->r, NULL, name, sizeof name) < 0)
        return NULL;
    if (!index_name_ok(name) && !(dir && strcmp(name, ".") == 0)) {
        record_bad(&d->r, "the name '%.200s' leads out of the directory or is not a file's", name);
        return NULL;
    }
    return xstrdup(name);
}

static int read_dir_record(struct index_reading *d)
{
    char *name = read_name(d, true);
    if (!name)
        return -1;
    struct packed_dir *x = index_add_dir(d->ix, name);
    return read_stamp(d, &x->mode, &x->mtime, &x->mtime_ns);
}

static int read_file_record(struct index_reading *d)
{
    char *name = read_name(d, false);
    if (!name)
        return -1;
    struct packed_file *f = index_add_file(d->ix, name);
    TRY(record_int(&d->r, "bytes", 0, INT64_MAX / 4, &f->bytes));
    TRY(record_hex32(&d->r, "crc32", &f->crc32));
    TRY(read_numbers(d, "experts", &f->experts));
    TRY(read_numbers(d, "layers", &f->layers));
    if (!f->experts != !f->layers)
        return record_bad(&d->r, "experts without layers, or layers without experts");
    return read_stamp(d, &f->mode, &f->mtime, &f->mtime_ns);
}

/* Of the file whose record was the last. */
static int read_span(struct index_reading *d, bool xor)
{
    struct pack_index *ix = d->ix;
    struct packed_file *f = ix->file_count ? &ix->files[ix->file_count - 1] : NULL;
    int64_t file, from = f && f->span_count ? f->spans[f->span_count - 1].end : 0;
    char name[NAME_ROOM];
    if (!f || ix->codec != CODEC_SPLIT || (xor&&!ix->base))
        return record_bad(&d->r, "'%s' has no file, no base, or the wrong codec", d->r.kind);
    struct packed_span *s = index_add_span(f);
    TRY(record_int(&d->r, "begin", from, f->bytes, &s->begin));
    TRY(record_int(&d->r, "end", s->begin + 1, f->bytes, &s->end));
    TRY(record_int(&d->r, "at", 0, INT64_MAX / 4, &s->at));
    if (!xor) {
        TRY(record_int(&d->r, "file", 0, INT32_MAX, &file));
        s->file = (int)file;
        return (s->end - s->begin) % 2 ? record_bad(&d->r, "half a BF16 number") : 0;
    }
    TRY(record_text(&d->r, "file", name, sizeof name));
    if (!index_name_ok(name))
        return record_bad(&d->r, "the name '%.200s' leads out of the base", name);
    s->base = xstrdup(name);
    return 0;
}

static int read_record(struct index_reading *d)
{
    const char *kind = d->r.kind;
    int rc;
    if (strcmp(kind, "pack") == 0)
        rc = read_pack(d);
    else if (!d->has_pack)
        return record_bad(&d->r, "'%s' before 'pack'", kind);
    else if (strcmp(kind, "base") == 0)
        rc = read_base(d);
    else if (strcmp(kind, "experts") == 0)
        rc = read_experts(d);
    else if (strcmp(kind, "dir") == 0)
        rc = read_dir_record(d);
    else if (strcmp(kind, "file") == 0)
        rc = read_file_record(d);
    else if (strcmp(kind, "made") == 0 || strcmp(kind, "xor") == 0)
        rc = read_span(d, *kind == 'x');
    else
        return record_bad(&d->r, "an unknown record '%.40s'", kind);
    return rc < 0 ? -1 : record_end(&d->r);
}

/* ---- what the records are together ---- */

static int text_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names sorted: of files, then (in a list of their own) of folders. */
static char **sorted_names(const struct pack_index *ix, bool dirs, int *count)
{
    *count = dirs ? ix->dir_count : ix->file_count;
    char **names = xcalloc((size_t)*count + 1, sizeof *names);
    for (int i = 0; i < *count; i++)
        names[i] = dirs ? ix->dirs[i].name : ix->files[i].name;
    if (*count)
        qsort(names, *count, sizeof *names, text_order);
    return names;
}

static bool is_among(char **names, int count, const char *name)
{
    return count && bsearch(&name, names, count, sizeof *names, text_order);
}

/* Whether one of the files is a folder that this name is in. */
static bool is_below_a_file(char **files, int count, const char *name)
{
    char folder[NAME_ROOM];
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
        if (is_among(files, count, folder))
            return true;
    }
    return false;
}

static int check_names(const struct pack_index *ix, const char *where)
{
    int count, dir_count, rc = 0;
    char **files = sorted_names(ix, false, &count), **dirs = sorted_names(ix, true, &dir_count);
    for (int i = 0; i < count && rc == 0; i++)
        if (i && strcmp(files[i], files[i - 1]) == 0)
            rc = error(STATUS_USAGE, "%s: two files called '%.200s'", where, files[i]);
        else if (is_below_a_file(files, count, files[i]))
            rc = error(STATUS_USAGE, "%s: '%.200s' lies in a file", where, files[i]);
    for (int i = 0; i < dir_count && rc == 0; i++)
        if ((i && strcmp(dirs[i], dirs[i - 1]) == 0) || is_among(files, count, dirs[i]))
            rc = error(STATUS_USAGE, "%s: two of the name '%.200s'", where, dirs[i]);
        else if (is_below_a_file(files, count, dirs[i]))
            rc = error(STATUS_USAGE, "%s: '%.200s' lies in a file", where, dirs[i]);
    free(files);
    free(dirs);
    return rc;
}

/* Numbers are made again from those of a file that is itself packed as it is. */
static int check_spans(const struct pack_index *ix, const char *where)
{
    bool *made = xcalloc(ix->file_count, sizeof *made);
    int rc = 0;
    for (int i = 0; i < ix->file_count; i++)
        made[i] = packed_is_made(&ix->files[i]);
    for (int i = 0; i < ix->file_count; i++)
        for (int n = 0; n < ix->files[i].span_count && rc == 0; n++) {
            const struct packed_span *s = &ix->files[i].spans[n];
            const struct packed_file *from = s->file < ix->file_count ? &ix->files[s->file] : NULL;
            if (!s->base && (!from || made[s->file] || s->at > from->bytes ||
                             2 * (s->end - s->begin) > from->bytes - s->at))
                rc = error(STATUS_USAGE, "%s: '%.200s' has numbers that are made from what is not there", where,
                           ix->files[i].name);
        }
    free(made);
    return rc;
}

static int read_all(struct index_reading *d)
{
    TRY(read_version(d));
    for (int got; (got = record_next(&d->r)) != 0;)
        if (got < 0 || read_record(d) < 0)
            return -1;
    if (!d->has_pack || !d->ix->file_count)
        return error(STATUS_USAGE, "%s: names no files", d->r.where);
    for (int i = 0; i < d->ix->file_count; i++)
        index_place_spans(&d->ix->files[i]);
    TRY(check_names(d->ix, d->r.where));
    return check_spans(d->ix, d->r.where);
}

static int check_lines(const char *text, size_t bytes, const char *where)
{
    for (const char *line = text, *end = text + bytes; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line)), *next = newline ? newline + 1 : end;
        if (next - line > MOST_LINE)
            return error(STATUS_USAGE, "%s: a record is longer than %d bytes", where, MOST_LINE);
        line = next;
    }
    return 0;
}

int index_parse(struct pack_index *ix, char *text, size_t bytes, const char *where)
{
    struct index_reading d = {.ix = ix};
    *ix = (struct pack_index){.step = -1};
    int rc = check_lines(text, bytes, where);
    if (rc == 0)
        rc = records_open(&d.r, text, bytes, where);
    if (rc == 0)
        rc = read_all(&d);
    records_close(&d.r);
    bool newer = ix->newer;
    if (rc < 0)
        index_release(ix);
    ix->newer = newer;
    return rc;
}

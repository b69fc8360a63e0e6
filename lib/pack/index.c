/* SPDX-License-Identifier: MIT */
#include "pack/index.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/num.h"
#include "base/record.h"

/* A table that grows; `count` elements are in it. */
static void *grow(void *list, int count, size_t size)
{
    return (count & (count + 1)) == 0 ? xrealloc(list, 2 * (size_t)count + 2, size) : list;
}

struct packed_file *index_add_file(struct pack_index *ix, char *name)
{
    ix->files = grow(ix->files, ix->file_count, sizeof *ix->files);
    ix->files[ix->file_count] = (struct packed_file){.name = name};
    return &ix->files[ix->file_count++];
}

struct packed_dir *index_add_dir(struct pack_index *ix, char *name)
{
    ix->dirs = grow(ix->dirs, ix->dir_count, sizeof *ix->dirs);
    ix->dirs[ix->dir_count] = (struct packed_dir){.name = name};
    return &ix->dirs[ix->dir_count++];
}

struct packed_span *index_add_span(struct packed_file *f)
{
    f->spans = grow(f->spans, f->span_count, sizeof *f->spans);
    f->spans[f->span_count] = (struct packed_span){0};
    return &f->spans[f->span_count++];
}

void index_place_spans(struct packed_file *f)
{
    int64_t made = 0;
    for (int i = 0; i < f->span_count; i++) {
        f->spans[i].before = f->spans[i].begin - made;
        made += f->spans[i].base ? 0 : f->spans[i].end - f->spans[i].begin;
    }
}

static void release_file(struct packed_file *f)
{
    for (int s = 0; s < f->span_count; s++)
        free(f->spans[s].base);
    free(f->spans);
    free(f->name);
    free(f->experts);
    free(f->layers);
}

void index_drop_file(struct pack_index *ix, int file)
{
    struct packed_file *f = &ix->files[file];
    release_file(f);
    memmove(f, f + 1, (size_t)(--ix->file_count - file) * sizeof *f);
}

void index_release(struct pack_index *ix)
{
    for (int i = 0; i < ix->file_count; i++)
        release_file(&ix->files[i]);
    for (int i = 0; i < ix->dir_count; i++)
        free(ix->dirs[i].name);
    free(ix->dirs);
    free(ix->files);
    free(ix->base);
    free(ix->experts);
    *ix = (struct pack_index){0};
}

bool index_name_ok(const char *name)
{
    size_t own = strlen(ARCHIVE_FOLDER);
    if (!*name || strlen(name) > 1000 || (strncmp(name, ARCHIVE_FOLDER, own) == 0 && strchr("/", name[own])))
        return false;
    for (const char *p = name;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

/* ---- its text ---- */

static void write_stamp(FILE *f, int mode, int64_t mtime, int ns)
{
    fprintf(f, " mode=%03o mtime=%" PRId64 " ns=%d", mode, mtime, ns);
}

static void write_span(FILE *out, const struct packed_span *s)
{
    fprintf(out, "%s begin=%" PRId64 " end=%" PRId64 " file=", s->base ? "xor" : "made", s->begin, s->end);
    if (s->base)
        record_write_text(out, s->base);
    else
        fprintf(out, "%d", s->file);
    fprintf(out, " at=%" PRId64 "\n", s->at);
}

static void write_file(FILE *out, const struct packed_file *f)
{
    fputs("file ", out);
    record_write_text(out, f->name);
    fprintf(out, " bytes=%" PRId64 " crc32=%08" PRIx32, f->bytes, f->crc32);
    write_stamp(out, f->mode, f->mtime, f->mtime_ns);
    if (f->experts)
        fprintf(out, " experts=%s layers=%s", f->experts, f->layers);
    putc('\n', out);
    for (int i = 0; i < f->span_count; i++)
        write_span(out, &f->spans[i]);
}

char *index_text(const struct pack_index *ix, size_t *bytes)
{
    char *text;
    FILE *out = open_memstream(&text, bytes);
    fprintf(out, "moe-archive 1\npack codec=%s part-bytes=%" PRId64, word_at(&codec_words, ix->codec),
            ix->part_bytes);
    if (ix->step >= 0)
        fprintf(out, " step=%" PRId64, ix->step);
    putc('\n', out);
    if (ix->base) {
        fputs("base name=", out);
        record_write_text(out, ix->base);
        fprintf(out, " sum=%08" PRIx32 "\n", ix->base_sum);
    }
    if (ix->experts)
        fprintf(out, "experts %s\n", ix->experts);
    for (int i = 0; i < ix->dir_count; i++) {
        fputs("dir ", out);
        record_write_text(out, ix->dirs[i].name);
        write_stamp(out, ix->dirs[i].mode, ix->dirs[i].mtime, ix->dirs[i].mtime_ns);
        putc('\n', out);
    }
    for (int i = 0; i < ix->file_count; i++)
        write_file(out, &ix->files[i]);
    fclose(out);
    return text;
}

/* ---- what a file's members hold ---- */

int64_t packed_bytes(const struct packed_file *f)
{
    int64_t bytes = f->bytes;
    for (int i = 0; i < f->span_count; i++)
        bytes -= f->spans[i].base ? 0 : f->spans[i].end - f->spans[i].begin;
    return bytes;
}

int64_t packed_members(const struct pack_index *ix, const struct packed_file *f)
{
    return ix->codec == CODEC_NONE ? 1 : max64(1, ceil_div(packed_bytes(f), ix->part_bytes));
}

char *packed_member_name(const struct pack_index *ix, const struct packed_file *f, int64_t part)
{
    const char *suffix = codec_suffix(ix->codec);
    return suffix ? xasprintf("%s.part-%06" PRId64 ".%s", f->name, part, suffix) : xstrdup(f->name);
}

int64_t packed_place(const struct packed_file *f, int64_t at, int64_t *run)
{
    int low = 0, high = f->span_count; /* the spans before `at` end at low */
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (f->spans[middle].before <= at)
            low = middle + 1;
        else
            high = middle;
    }
    int64_t made = 0;
    if (low) {
        const struct packed_span *s = &f->spans[low - 1];
        made = (s->base ? s->begin : s->end) - s->before;
    }
    for (int i = low; i < f->span_count; i++)
        if (!f->spans[i].base) {
            *run = min64(*run, f->spans[i].before - at);
            break;
        }
    return at + made;
}

static bool has(const struct packed_file *f, bool xor)
{
    for (int i = 0; i < f->span_count; i++)
        if ((f->spans[i].base != NULL) == xor)
            return true;
    return false;
}

bool packed_is_made(const struct packed_file *f)
{
    return has(f, false);
}

bool packed_has_xor(const struct packed_file *f)
{
    return has(f, true);
}

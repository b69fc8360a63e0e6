/* SPDX-License-Identifier: MIT */
#include "pack/contents.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/num.h"
#include "pack/unpack.h"

char *contents_about(const struct pack_index *ix, char about[static 160])
{
    int n = snprintf(about, 160, "archive (%s)", word_at(&codec_words, ix->codec));
    if (ix->step >= 0)
        n += snprintf(about + n, (size_t)(160 - n), " of step %" PRId64, ix->step);
    if (ix->experts)
        n += snprintf(about + n, (size_t)(160 - n), ", experts %.40s alone", ix->experts);
    if (ix->base)
        snprintf(about + n, (size_t)(160 - n), ", the difference from '%.40s'", ix->base);
    return about;
}

static void list_text(const struct pack_index *ix, FILE *out)
{
    char about[160], size[24];
    int64_t bytes = 0;
    fprintf(out, "# %s\n#          bytes  made again  crc32     experts   file\n", contents_about(ix, about));
    for (int i = 0; i < ix->file_count; i++) {
        const struct packed_file *f = &ix->files[i];
        fprintf(out, "%16" PRId64 "  %10" PRId64 "  %08" PRIx32 "  %-8s  %s\n", f->bytes,
                f->bytes - packed_bytes(f), f->crc32, f->experts ? f->experts : "-", f->name);
        bytes += f->bytes;
    }
    fprintf(out, "# %d file%s, %s\n", ix->file_count, plural(ix->file_count), human_bytes((double)bytes, size));
}

static int list_json(const struct pack_index *ix, const char *path, FILE *out)
{
    char crc[16];
    json_t *files = json_array(),
           *root = json_pack("{s:o, s:s}", "path", json_bytes(path), "codec", word_at(&codec_words, ix->codec));
    if (ix->step >= 0)
        json_object_set_new(root, "step", json_integer(ix->step));
    if (ix->experts)
        json_object_set_new(root, "experts", json_bytes(ix->experts));
    if (ix->base)
        json_object_set_new(root, "base", json_bytes(ix->base));
    for (int i = 0; i < ix->file_count; i++) {
        const struct packed_file *f = &ix->files[i];
        snprintf(crc, sizeof crc, "%08" PRIx32, f->crc32);
        json_t *x =
            json_pack("{s:o, s:I, s:I, s:s}", "name", json_bytes(f->name), "bytes", (json_int_t)f->bytes,
                      "made_again", (json_int_t)(f->bytes - packed_bytes(f)), "crc32", crc);
        if (f->experts)
            json_object_set_new(x, "experts", json_bytes(f->experts));
        json_array_append_new(files, x);
    }
    json_object_set_new(root, "files", files);
    int rc = json_dumpf(root, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(root);
    return rc < 0 ? error(STATUS_ENV, "cannot write JSON") : 0;
}

int contents_list(const char *path, bool json, FILE *out)
{
    struct unpack u;
    int rc = 0;
    TRY(unpack_open(&u, path, 1, NULL));
    if (json)
        rc = list_json(&u.index, path, out);
    else
        list_text(&u.index, out);
    unpack_close(&u);
    return rc;
}

/* SPDX-License-Identifier: MIT */
/* Nothing in the header is believed until it has been checked: files come from anywhere. */
#include "tensors/safetensors.h"

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/lfs.h"
#include "base/memory.h"
#include "base/num.h"
#include "tensors/sum.h"

#define MAX_HEADER 100000000 /* the format's own limit */

enum {
    MAX_DEPTH = 127, /* of brackets in brackets, the library's */
    MAX_DIMS = 1 << 16,
};

/* Every dtype that the library has. Most can only be carried: tensors/convert.h has those that can be computed
 * with. */
int st_dtype_bits(const char *dtype)
{
    static const struct {
        const char *name;
        int bits;
    } known[] = {
        {"F32", 32},        {"BF16", 16},   {"F16", 16},    {"F64", 64},    {"I64", 64},    {"U64", 64},
        {"I32", 32},        {"U32", 32},    {"I16", 16},    {"U16", 16},    {"I8", 8},      {"U8", 8},
        {"BOOL", 8},        {"C64", 64},    {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
        {"F8_E5M2FNUZ", 8}, {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"F4", 4},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].name, dtype) == 0)
            return known[i].bits;
    return 0;
}

char *st_shape_text(const struct st_tensor *t, char buf[static 192])
{
    int n = snprintf(buf, 192, "[");
    for (int d = 0; d < t->dims; d++) {
        if (n > 160) {
            n += snprintf(buf + n, 192 - n, ",…");
            break;
        }
        n += snprintf(buf + n, 192 - n, "%s%" PRId64, d ? "," : "", t->shape[d]);
    }
    snprintf(buf + n, 192 - n, "]");
    return buf;
}

/* *bits: of all elements, counted as the library counts: from the left, in 64 bits without a sign. */
static int read_shape(struct st_tensor *t, const json_t *shape, int element, uint64_t *bits, const char *path)
{
    uint64_t count = 1;
    if (!json_is_array(shape) || json_array_size(shape) > MAX_DIMS)
        return error(STATUS_USAGE, "%s: tensor '%s': shape is not a list of at most %d numbers", path, t->name,
                     MAX_DIMS);
    t->dims = (int)json_array_size(shape);
    t->shape = xcalloc(t->dims, sizeof *t->shape);
    for (int d = 0; d < t->dims; d++) {
        const json_t *n = json_array_get(shape, d);
        t->shape[d] = json_is_integer(n) ? json_integer_value(n) : -1;
        if (t->shape[d] < 0 || __builtin_mul_overflow(count, (uint64_t)t->shape[d], &count))
            return error(STATUS_USAGE, "%s: tensor '%s': dimension %d of the shape is not a size", path,
                         t->name, d);
    }
    if (__builtin_mul_overflow(count, (uint64_t)element, bits))
        return error(STATUS_USAGE, "%s: tensor '%s': its size overflows", path, t->name);
    return 0;
}

static int read_tensor(struct st_file *f, struct st_tensor *t, const json_t *v)
{
    const json_t *dtype = json_object_get(v, "dtype"), *at = json_object_get(v, "data_offsets");
    const char *type = json_is_string(dtype) ? json_string_value(dtype) : "";
    uint64_t bits = 0;
    if (!st_dtype_bits(type))
        return error(STATUS_USAGE, "%s: tensor '%s': unknown dtype '%.20s'", f->path, t->name, type);
    snprintf(t->dtype, sizeof t->dtype, "%s", type);
    if (read_shape(t, json_object_get(v, "shape"), st_dtype_bits(type), &bits, f->path) < 0)
        return -1;
    const json_t *b = json_array_get(at, 0), *e = json_array_get(at, 1);
    if (json_array_size(at) != 2 || !json_is_integer(b) || !json_is_integer(e))
        return error(STATUS_USAGE, "%s: tensor '%s': data_offsets are not two numbers", f->path, t->name);
    t->begin = json_integer_value(b);
    t->end = json_integer_value(e);
    if (t->begin < 0 || t->end < t->begin || t->end > f->size - f->data)
        return error(STATUS_USAGE,
                     "%s: tensor '%s': data_offsets %" PRId64 "-%" PRId64 " lie outside the %" PRId64
                     " bytes of data",
                     f->path, t->name, t->begin, t->end, f->size - f->data);
    if (bits % 8 || bits / 8 != (uint64_t)(t->end - t->begin)) {
        char shape[192];
        return error(STATUS_USAGE, "%s: tensor '%s': %s %s does not fill its %" PRId64 " bytes", f->path,
                     t->name, type, st_shape_text(t, shape), t->end - t->begin);
    }
    return 0;
}

static int read_metadata(struct st_file *f, json_t *v)
{
    const char *key;
    json_t *text;
    int n = 0;
    if (json_is_null(v))
        return 0;
    if (!json_is_object(v))
        return error(STATUS_USAGE, "%s: __metadata__ is not a JSON object", f->path);
    f->metadata = xcalloc(2 * json_object_size(v) + 1, sizeof *f->metadata);
    json_object_foreach(v, key, text)
    {
        if (!json_is_string(text))
            return error(STATUS_USAGE, "%s: __metadata__: '%s' is not a string", f->path, key);
        f->metadata[n++] = xstrdup(key);
        f->metadata[n++] = xstrdup(json_string_value(text));
    }
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

static int name_order(const void *a, const void *b, void *tensors)
{
    const struct st_tensor *t = tensors;
    return strcmp(t[*(const int *)a].name, t[*(const int *)b].name);
}

/* Tensors in the order of their places, which must follow each other without overlap or hole to the file's end.
 */
static int sort_tensors(struct st_file *f)
{
    qsort(f->tensors, f->count, sizeof *f->tensors, by_place);
    int64_t end = 0;
    for (int i = 0; i < f->count; i++) {
        const struct st_tensor *t = &f->tensors[i];
        if (t->begin != end)
            return error(STATUS_USAGE, "%s: tensor '%s' begins at byte %" PRId64 " of the data, %s at %" PRId64,
                         f->path, t->name, t->begin,
                         t->begin < end ? "inside another, which ends" : "after a hole that begins", end);
        end = t->end;
    }
    if (end != f->size - f->data)
        return error(STATUS_USAGE, "%s: the tensors end at byte %" PRId64 " of the data, the file at %" PRId64,
                     f->path, end, f->size - f->data);
    f->by_name = xcalloc(f->count, sizeof *f->by_name);
    for (int i = 0; i < f->count; i++)
        f->by_name[i] = i;
    qsort_r(f->by_name, f->count, sizeof *f->by_name, name_order, f->tensors);
    return 0;
}

static int read_header(struct st_file *f, json_t *root)
{
    const char *key;
    json_t *v;
    if (!json_is_object(root))
        return error(STATUS_USAGE, "%s: the header is not a JSON object", f->path);
    f->tensors = xcalloc(json_object_size(root), sizeof *f->tensors);
    json_object_foreach(root, key, v)
    {
        if (strcmp(key, "__metadata__") == 0) {
            TRY(read_metadata(f, v));
            continue;
        }
        struct st_tensor *t = &f->tensors[f->count++];
        t->name = xstrdup(key);
        if (read_tensor(f, t, v) < 0)
            return -1;
    }
    return sort_tensors(f);
}

/* What jansson lets pass and the library does not: a NUL after a number, -0, which is no size, and brackets
 * deeper than the library follows. */
static int check_text(const struct st_file *f, const char *text, size_t size)
{
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (quoted && c == '\\')
            i++;
        else if (c == '"')
            quoted = !quoted;
        if (quoted)
            continue;
        depth += (c == '{' || c == '[') - (c == '}' || c == ']');
        if (!c || depth > MAX_DEPTH || (c == '-' && i + 1 < size && text[i + 1] == '0'))
            return error(STATUS_USAGE, "%s: header, byte %zu: %s", f->path, i,
                         c == '-' ? "a number that is no size"
                         : c      ? "brackets nested too deep"
                                  : "a NUL byte");
    }
    return 0;
}

static int parse_header(struct st_file *f, const char *text, size_t size)
{
    json_error_t bad;
    TRY(check_text(f, text, size));
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &bad);
    int rc = root ? read_header(f, root)
                  : error(STATUS_USAGE, "%s: header, byte %d: %s", f->path, bad.position, bad.text);
    json_decref(root);
    return rc;
}

static int open_checked(struct st_file *f)
{
    struct stat st;
    unsigned char word[8];
    uint64_t size = 0;
    if (f->fd < 0 || fstat(f->fd, &st) != 0)
        return error_errno("cannot open '%s'", f->path);
    if (!S_ISREG(st.st_mode))
        return error(STATUS_USAGE, "'%s' is not a regular file", f->path);
    f->size = st.st_size;
    TRY(lfs_refuse(f->fd, f->path));
    if (f->size < 8)
        return error(STATUS_USAGE, "%s: %" PRId64 " bytes are too short for a safetensors file", f->path,
                     f->size);
    if (pread_all(f->fd, word, 8, 0, f->path) < 0)
        return -1;
    for (int i = 7; i >= 0; i--)
        size = size << 8 | word[i];
    if (size > MAX_HEADER || (int64_t)size > f->size - 8)
        return error(STATUS_USAGE,
                     "%s: a header of %" PRIu64 " bytes does not fit: the file has %" PRId64 " (limit %d)",
                     f->path, size, f->size, MAX_HEADER);
    f->data = 8 + (int64_t)size;
    char *text = xmalloc(size);
    int rc = pread_all(f->fd, text, size, 8, f->path);
    f->header_crc = sum_bytes(sum_bytes(0, word, 8), text, rc == 0 ? size : 0);
    if (rc == 0)
        rc = parse_header(f, text, size);
    free(text);
    return rc;
}

int st_open(struct st_file *f, const char *path)
{
    *f = (struct st_file){.path = xstrdup(path), .fd = open(path, O_RDONLY | O_CLOEXEC)};
    if (open_checked(f) == 0)
        return 0;
    st_close(f);
    return -1;
}

void st_close(struct st_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    for (int i = 0; i < f->count; i++) {
        free(f->tensors[i].name);
        free(f->tensors[i].shape);
    }
    for (char **m = f->metadata; m && *m; m++)
        free(*m);
    free(f->metadata);
    free(f->tensors);
    free(f->by_name);
    free(f->path);
    *f = (struct st_file){.fd = -1};
}

const struct st_tensor *st_find(const struct st_file *f, const char *name)
{
    int low = 0, high = f->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        const struct st_tensor *t = &f->tensors[f->by_name[middle]];
        int order = strcmp(name, t->name);
        if (order == 0)
            return t;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

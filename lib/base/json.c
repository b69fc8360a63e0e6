/* SPDX-License-Identifier: MIT */
#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/lfs.h"
#include "base/memory.h"

/* The place of this byte. */
static void place_of(const char *text, const char *at, int *line, int *column)
{
    *line = *column = 1;
    for (; text < at; text++) {
        *column = *text == '\n' ? 1 : *column + 1;
        *line += *text == '\n';
    }
}

/* The first `"key" :` that is looked for, or NULL. */
static const char *key_at(const struct json_doc *d, const char *key)
{
    size_t length = strlen(key);
    for (const char *p = d->from ? d->from : d->text; p && (p = strstr(p, key)); p++) {
        const char *after = p + length;
        if (p == d->text || p[-1] != '"' || *after != '"')
            continue;
        after += 1 + strspn(after + 1, " \t\r\n");
        if (*after == ':')
            return p - 1;
    }
    return NULL;
}

/* Its line and column; 1:1 for a key that is not there (or is written with escapes).
 * jansson keeps no positions, and a second parse for the sake of messages is not worth having. */
static void find_key(const struct json_doc *d, const char *key, int *line, int *column)
{
    const char *at = key_at(d, key);
    *line = *column = 1;
    if (at)
        place_of(d->text, at, line, column);
}

void json_enter(struct json_doc *d, const char *key)
{
    d->from = key_at(d, key);
}

int json_bad(const struct json_doc *d, const char *key, const char *fmt, ...)
{
    int line, column;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    find_key(d, key, &line, &column);
    return error(STATUS_USAGE, "%s:%d:%d: key '%s' %s", d->where, line, column, key, text);
}

int json_open(struct json_doc *d, const char *text, size_t bytes, const char *where)
{
    json_error_t bad;
    size_t blank = 0;
    const char *nul = memchr(text, 0, bytes); /* jansson takes one after a number for a blank */
    *d = (struct json_doc){0};
    if (lfs_pointer(text, bytes))
        return lfs_error(where);
    if (nul) {
        int line, column;
        place_of(text, nul, &line, &column);
        return error(STATUS_USAGE, "%s:%d:%d: a NUL byte: this is no text", where, line, column);
    }
    while (blank < bytes && strchr(" \t\r\n", text[blank]))
        blank++;
    if (blank == bytes)
        return error(STATUS_USAGE, "%s:1:1: is empty", where);
    *d = (struct json_doc){.root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &bad)};
    if (!d->root)
        return error(STATUS_USAGE, "%s:%d:%d: %s", where, bad.line > 0 ? bad.line : 1,
                     bad.column > 0 ? bad.column : 1, bad.text);
    d->where = xstrdup(where);
    d->text = xmalloc(bytes + 1);
    memcpy(d->text, text, bytes);
    d->text[bytes] = '\0';
    if (json_is_object(d->root))
        return 0;
    json_close(d);
    return error(STATUS_USAGE, "%s:1:1: not a JSON object", where);
}

int json_open_file(struct json_doc *d, const char *path, size_t max_bytes)
{
    size_t bytes;
    *d = (struct json_doc){0};
    char *text = file_read(path, max_bytes, &bytes);
    if (!text)
        return -1;
    int rc = json_open(d, text, bytes, strcmp(path, "-") == 0 ? "stdin" : path);
    free(text);
    return rc;
}

void json_close(struct json_doc *d)
{
    json_decref(d->root);
    free(d->where);
    free(d->text);
    *d = (struct json_doc){0};
}

static const char *type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "null";
    }
}

static int wrong_type(const struct json_doc *d, const char *key, const char *wanted, const json_t *v)
{
    return json_bad(d, key, "must be %s, not %s", wanted, type_name(v));
}

/* The member, or NULL where it is missing or null. */
static const json_t *member(const json_t *obj, const char *key)
{
    const json_t *v = json_object_get(obj, key);
    return json_is_null(v) ? NULL : v;
}

int json_int(const struct json_doc *d, const json_t *obj, const char *key, int64_t min, int64_t max,
             int64_t *value)
{
    const json_t *v = member(obj, key);
    if (!v)
        return 0;
    if (!json_is_integer(v))
        return wrong_type(d, key, "an integer", v);
    int64_t n = json_integer_value(v);
    if (n < min || n > max)
        return json_bad(d, key, "is %lld, outside %lld to %lld", (long long)n, (long long)min, (long long)max);
    *value = n;
    return 1;
}

int json_num(const struct json_doc *d, const json_t *obj, const char *key, double min, double max,
             double *value)
{
    const json_t *v = member(obj, key);
    if (!v)
        return 0;
    if (!json_is_number(v))
        return wrong_type(d, key, "a number", v);
    double x = json_number_value(v);
    if (!(x >= min && x <= max))
        return json_bad(d, key, "is %g, outside %g to %g", x, min, max);
    *value = x;
    return 1;
}

int json_flag(const struct json_doc *d, const json_t *obj, const char *key, bool *value)
{
    const json_t *v = member(obj, key);
    if (!v)
        return 0;
    if (!json_is_boolean(v))
        return wrong_type(d, key, "true or false", v);
    *value = json_is_true(v);
    return 1;
}

int json_text(const struct json_doc *d, const json_t *obj, const char *key, const char **value)
{
    const json_t *v = member(obj, key);
    if (!v)
        return 0;
    if (!json_is_string(v))
        return wrong_type(d, key, "a string", v);
    *value = json_string_value(v);
    return 1;
}

static int needed(const struct json_doc *d, const char *key, int found)
{
    return found ? found : json_bad(d, key, "is missing");
}

int json_need_int(const struct json_doc *d, const json_t *obj, const char *key, int64_t min, int64_t max,
                  int64_t *value)
{
    return needed(d, key, json_int(d, obj, key, min, max, value));
}

/* Bytes of the character that begins here; 0: none does. */
static size_t utf8_length(const unsigned char *s, size_t room)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;
    if (n > room)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    /* written with more bytes than it takes, half of a surrogate pair, beyond U+10FFFF */
    bool outside = (s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
                   (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f);
    return outside ? 0 : n;
}

char *utf8_repair(const char *text, size_t bytes, size_t *size)
{
    static const char replacement[] = "\xef\xbf\xbd";
    char *out = xmalloc(3 * bytes + 1), *to = out;
    for (size_t i = 0; i < bytes;) {
        size_t n = utf8_length((const unsigned char *)text + i, bytes - i);
        memcpy(to, n ? text + i : replacement, n ? n : 3);
        to += n ? n : 3;
        i += n ? n : 1;
    }
    *to = '\0';
    if (size)
        *size = (size_t)(to - out);
    return out;
}

bool utf8_valid(const char *text)
{
    size_t n = 1;
    for (size_t left = strlen(text); left && n; text += n, left -= n)
        n = utf8_length((const unsigned char *)text, left);
    return n > 0;
}

json_t *json_bytes(const char *text)
{
    size_t size;
    char *good = utf8_repair(text, strlen(text), &size);
    json_t *s = json_stringn(good, size);
    free(good);
    return s;
}

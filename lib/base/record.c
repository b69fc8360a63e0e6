/* SPDX-License-Identifier: MIT */
#include "base/record.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

int records_open(struct records *r, char *text, size_t bytes, const char *where)
{
    *r = (struct records){.where = where, .next = text, .end = text + bytes};
    const char *nul = memchr(text, 0, bytes);
    if (!nul)
        return 0;
    r->line = 1;
    for (const char *p = text; p < nul; p++)
        r->line += *p == '\n';
    return record_bad(r, "a NUL byte: this is not a text");
}

void records_close(struct records *r)
{
    free(r->words);
    r->words = NULL;
}

static int bad_at(const struct records *r, int column, const char *fmt, va_list ap)
{
    char text[1024];
    vsnprintf(text, sizeof text, fmt, ap);
    return error(STATUS_USAGE, "%s:%d:%d: %s", r->where, r->line, column, text);
}

int record_bad(const struct records *r, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bad_at(r, 1, fmt, ap);
    va_end(ap);
    return -1;
}

int record_bad_word(const struct records *r, const struct record_word *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bad_at(r, w->column, fmt, ap);
    va_end(ap);
    return -1;
}

char *record_raw_line(struct records *r)
{
    if (r->next >= r->end)
        return NULL;
    char *line = r->line_start = r->next, *newline = memchr(line, '\n', r->end - line);
    if (newline)
        *newline = '\0';
    r->next = newline ? newline + 1 : r->end;
    r->line++;
    return line;
}

static void add_word(struct records *r, char *text, int column)
{
    if (r->count == r->room) {
        r->room = r->room ? 2 * r->room : 64;
        r->words = xrealloc(r->words, r->room, sizeof *r->words);
    }
    char *equals = strchr(text, '=');
    if (equals)
        *equals = '\0';
    r->words[r->count++] = (struct record_word){equals ? text : NULL, equals ? equals + 1 : text, column};
}

/* Keys are few in a record, bare words may be many. */
static int check_keys(const struct records *r)
{
    const struct record_word *keyed[64];
    int n = 0;
    for (int i = 0; i < r->count; i++) {
        const struct record_word *w = &r->words[i];
        if (!w->key)
            continue;
        if (n == 64)
            return record_bad_word(r, w, "more than 64 keys in a record");
        for (int k = 0; k < n; k++)
            if (strcmp(keyed[k]->key, w->key) == 0)
                return record_bad_word(r, w, "key '%s' is repeated", w->key);
        keyed[n++] = w;
    }
    return 0;
}

int record_next(struct records *r)
{
    for (char *line; (line = record_raw_line(r));) {
        r->kind = NULL;
        r->count = r->bare = 0;
        for (char *p = line; *(p += strspn(p, " \t\r")) && *p != '#';) {
            char *word = p;
            p += strcspn(p, " \t\r");
            if (*p)
                *p++ = '\0';
            if (r->kind)
                add_word(r, word, (int)(word - line) + 1);
            else
                r->kind = word;
        }
        if (r->kind)
            return check_keys(r) < 0 ? -1 : 1;
    }
    return 0;
}

struct record_word *record_take(struct records *r, const char *key)
{
    for (int i = key ? 0 : r->bare; i < r->count; i++) {
        struct record_word *w = &r->words[i];
        if (key ? !w->key || strcmp(w->key, key) != 0 : w->key != NULL)
            continue;
        w->taken = true;
        if (!key)
            r->bare = i + 1;
        return w;
    }
    return NULL;
}

static const char *called(const char *key)
{
    return key ? key : "a value";
}

static struct record_word *need(struct records *r, const char *key)
{
    struct record_word *w = record_take(r, key);
    if (!w && key)
        record_bad(r, "'%s' lacks '%s='", r->kind, key);
    else if (!w)
        record_bad(r, "'%s' lacks a value", r->kind);
    return w;
}

int record_int(struct records *r, const char *key, int64_t min, int64_t max, int64_t *value)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    if (!parse_int(w->value, min, max, value))
        return record_bad_word(r, w, "%s must be a whole number from %lld to %lld, not '%.40s'", called(key),
                               (long long)min, (long long)max, w->value);
    return 0;
}

int record_num(struct records *r, const char *key, double min, double max, double *value)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    if (strcmp(w->value, "null") == 0) {
        *value = NAN;
        return 0;
    }
    if (!parse_num(w->value, min, max, value))
        return record_bad_word(r, w, "%s must be a number from %g to %g, not '%.40s'", called(key), min, max,
                               w->value);
    return 0;
}

static int hex_digit(char c)
{
    const char *digits = "0123456789abcdef0123456789ABCDEF", *p = c ? strchr(digits, c) : NULL;
    return p ? (int)(p - digits) % 16 : -1;
}

int record_text(struct records *r, const char *key, char *buf, size_t room)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    size_t n = 0;
    for (const char *p = w->value; *p; p++) {
        int c = (unsigned char)*p;
        if (c == '%') {
            int high = hex_digit(p[1]), low = high < 0 ? -1 : hex_digit(p[2]);
            if (low < 0 || (high == 0 && low == 0))
                return record_bad_word(r, w, "%s has a '%%' without two hexadecimal digits", called(key));
            c = 16 * high + low;
            p += 2;
        }
        if (n + 1 >= room)
            return record_bad_word(r, w, "%s is longer than %zu bytes", called(key), room - 1);
        buf[n++] = (char)c;
    }
    buf[n] = '\0';
    return 0;
}

int record_choice(struct records *r, const char *key, const struct words *words, int *index)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    *index = word_index(words, w->value);
    return *index >= 0 ? 0 : record_bad_word(r, w, "%s cannot be '%.40s'", called(key), w->value);
}

int record_hex32(struct records *r, const char *key, uint32_t *value)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    uint32_t v = 0;
    size_t n = strlen(w->value);
    for (size_t i = 0; i < n && n == 8; i++) {
        int d = hex_digit(w->value[i]);
        if (d < 0)
            n = 0;
        v = v << 4 | (uint32_t)d;
    }
    if (n != 8)
        return record_bad_word(r, w, "%s must be 8 hexadecimal digits, not '%.40s'", called(key), w->value);
    *value = v;
    return 0;
}

/* A number at *p, or -1. */
static int64_t list_number(const char **p, int64_t max)
{
    int64_t v = 0;
    const char *start = *p;
    for (; **p >= '0' && **p <= '9' && v <= max; (*p)++)
        v = 10 * v + (**p - '0');
    return *p == start || v > max ? -1 : v;
}

int record_list(struct records *r, const char *key, int64_t max, int64_t max_count, int **list, int *count)
{
    struct record_word *w = need(r, key);
    if (!w)
        return -1;
    int n = 0, room = 0, *items = NULL;
    const char *p = strcmp(w->value, "-") == 0 ? "" : w->value;
    bool more = *p || p == w->value;
    while (more) {
        const char *item = p;
        int64_t first = list_number(&p, max), last = first;
        if (first >= 0 && *p == '-') {
            p++;
            last = list_number(&p, max);
        }
        if (first < 0 || last < first || (*p && *p != ',')) {
            free(items);
            return record_bad_word(r, w, "%s must be a list of numbers up to %lld: '%.20s' is not", called(key),
                                   (long long)max, item);
        }
        if (n + (last - first + 1) > max_count) {
            free(items);
            return record_bad_word(r, w, "%s lists more than %lld numbers", called(key), (long long)max_count);
        }
        for (; first <= last; first++) {
            if (n == room) {
                room = room ? 2 * room : 16;
                items = xrealloc(items, room, sizeof *items);
            }
            items[n++] = (int)first;
        }
        more = *p == ',';
        p += more;
    }
    *list = items ? items : xmalloc(1);
    *count = n;
    return 0;
}

int record_end(const struct records *r)
{
    for (int i = 0; i < r->count; i++) {
        const struct record_word *w = &r->words[i];
        if (!w->taken && w->key)
            return record_bad_word(r, w, "'%s' has no key '%.40s'", r->kind, w->key);
        if (!w->taken)
            return record_bad_word(r, w, "'%.40s' is one value too many in '%s'", w->value, r->kind);
    }
    return 0;
}

void record_write_text(FILE *f, const char *value)
{
    for (const unsigned char *p = (const unsigned char *)value; *p; p++)
        if (*p <= ' ' || *p == '%' || *p == 0x7f)
            fprintf(f, "%%%02x", *p);
        else
            putc(*p, f);
}

void record_write_list(FILE *f, const int *list, int count, bool ranges)
{
    if (count == 0)
        putc('-', f);
    for (int i = 0, run; i < count; i += run) {
        for (run = 1; ranges && i + run < count && list[i + run] == list[i] + run;)
            run++;
        if (run == 2)
            run = 1;
        fprintf(f, i ? ",%d" : "%d", list[i]);
        if (run > 2)
            fprintf(f, "-%d", list[i + run - 1]);
    }
}

/* SPDX-License-Identifier: MIT */
/* JSON documents through jansson, with errors that name file, line and column. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_doc {
    json_t *root;
    char *where;      /* the file, for messages */
    char *text;       /* its text, to find where a key stands */
    const char *from; /* in text: keys are looked for from here on; NULL: from its start */
};

/* text is copied. The root must be an object. Duplicate keys are refused, and a Git LFS pointer by that name.
 * 0 or -1 (status 2). */
int json_open(struct json_doc *d, const char *text, size_t bytes, const char *where);
int json_open_file(struct json_doc *d, const char *path, size_t max_bytes);
void json_close(struct json_doc *d);

/* error(STATUS_USAGE, "FILE:LINE:COL: key 'KEY' …"), the place being where the key first stands in the text.
 * Returns -1. */
int json_bad(const struct json_doc *d, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* From now on json_bad() looks for keys behind this one: they are read from the object that it names. */
void json_enter(struct json_doc *d, const char *key);

/* Members of obj. A missing member (or null) leaves *value alone and returns 0; the `need_` forms fail instead.
 * 1 if it was there. -1: wrong type or outside [min,max]. */
int json_int(const struct json_doc *d, const json_t *obj, const char *key, int64_t min, int64_t max,
             int64_t *value);
int json_num(const struct json_doc *d, const json_t *obj, const char *key, double min, double max,
             double *value);
int json_flag(const struct json_doc *d, const json_t *obj, const char *key, bool *value);
int json_text(const struct json_doc *d, const json_t *obj, const char *key, const char **value);
int json_need_int(const struct json_doc *d, const json_t *obj, const char *key, int64_t min, int64_t max,
                  int64_t *value);

/* Text from outside (names of files, hosts and models, arguments, messages that hold them) may be any bytes,
 * and JSON is UTF-8: jansson makes no string of others, and json_pack() then no object. So such text goes in by
 * json_bytes(), never by json_string() or the "s" of json_pack(). Each byte that is of no character becomes
 * U+FFFD. */
json_t *json_bytes(const char *text); /* never NULL */
/* The same as text, NUL-terminated; caller frees. */
char *utf8_repair(const char *text, size_t bytes, size_t *size);
bool utf8_valid(const char *text);

#endif

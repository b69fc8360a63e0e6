/* SPDX-License-Identifier: MIT */
/* Text records: one a line, a kind and then words, each `key=value` or a bare value; blanks separate them.
 *
 *     stage 3 pp=1 chunk=1 layers=6-7    # a word that begins with '#' starts a comment
 *
 * In values %XX stands for a byte that cannot be written (blank, '%', control). A record's words are taken one
 * by one; what is left over at record_end() is an unknown key. Every failure is an error with status 2 that
 * begins with file:line:column. */
#ifndef BASE_RECORD_H
#define BASE_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/words.h"

struct record_word {
    char *key, *value; /* key NULL: bare */
    int column;
    bool taken;
};

/* A reader over a text, which it cuts up in place, and the record it stands on. */
struct records {
    const char *where; /* file name for messages */
    char *next, *end;
    char *line_start; /* of the line last read */
    int line;
    char *kind; /* of the current record; its words follow */
    struct record_word *words;
    int count, room;
    int bare; /* first bare word not yet taken */
};

/* `text` (with a NUL at text[bytes]) and `where` must outlive the reader. A NUL inside the text is refused. */
int records_open(struct records *r, char *text, size_t bytes, const char *where);
void records_close(struct records *r);
/* The next record, over blank lines and comments: 1, 0 at the end, -1. A repeated key is refused. */
int record_next(struct records *r);
/* The next line as it is, without its newline: NULL at the end. For verbatim blocks. */
char *record_raw_line(struct records *r);
/* error() at the current record (column 1), or at a word. Returns -1. */
int record_bad(const struct records *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int record_bad_word(const struct records *r, const struct record_word *w, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The word with this key, or NULL (key NULL: the next bare word). Marks it taken. */
struct record_word *record_take(struct records *r, const char *key);
/* Needed values: -1 when missing, malformed or out of range. key NULL: the next bare word. */
int record_int(struct records *r, const char *key, int64_t min, int64_t max, int64_t *value);
int record_num(struct records *r, const char *key, double min, double max, double *value); /* `null`: NaN */
int record_text(struct records *r, const char *key, char *buf, size_t room);               /* %XX decoded */
int record_choice(struct records *r, const char *key, const struct words *words, int *index);
int record_hex32(struct records *r, const char *key, uint32_t *value); /* exactly 8 digits */
/* `3,5,8-11` in the order written; `-` is the empty list. At most `max_count` items, each in [0,max]; caller
 * frees *list. */
int record_list(struct records *r, const char *key, int64_t max, int64_t max_count, int **list, int *count);
/* All words taken? */
int record_end(const struct records *r);

/* Writes the value with %XX where it must. */
void record_write_text(FILE *f, const char *value);
/* Writes `3,5,8-11` (ranges: runs of three or more are joined when `ranges`), `-` when empty. */
void record_write_list(FILE *f, const int *list, int count, bool ranges);

#endif

/* SPDX-License-Identifier: MIT */
/* JSON read as it streams by, one value after another. The text ends with a line feed, which nothing here
 * accepts: so nothing looks for the end; SCAN_PADDING readable bytes follow it (stat/scan.h). A function that
 * returns false (member: -1) has met what is no JSON; the cursor is then anywhere before the line feed. */
#ifndef STAT_CURSOR_H
#define STAT_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_cursor {
    const char *p;
};

static inline void cursor_blanks(struct json_cursor *c)
{
    while (*c->p == ' ' || *c->p == '\t' || *c->p == '\r')
        c->p++;
}

/* Blanks, and then this character. */
static inline bool cursor_take(struct json_cursor *c, char wanted)
{
    cursor_blanks(c);
    if (*c->p != wanted)
        return false;
    c->p++;
    return true;
}

/* Passes over the value at the cursor, whatever it is. Of arrays and objects only quotes and brackets are
 * looked at; they are at most 64 deep. */
bool cursor_value(struct json_cursor *c);

/* The number at the cursor, exactly; NaN for a value of another kind. NaN and Infinity, as Python writes them,
 * are numbers too. */
bool cursor_real(struct json_cursor *c, double *to);
/* Towards zero, and 0 for what is no number or too large. *whole: it is an integer, and this is its value. */
bool cursor_integer(struct json_cursor *c, int64_t *to, bool *whole);

/* The members of an object, one a call. Zeroed at first. */
struct members {
    bool begun;
    const char *key; /* as it is written, without its quotes */
    size_t bytes;
};
/* 1: a member, at whose value the cursor is; 0: behind the object; -1: it is none. */
int cursor_member(struct json_cursor *c, struct members *m);

#endif

/* SPDX-License-Identifier: MIT */
#include "stat/cursor.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ---- what is passed over ---- */

/* Behind the quote that ends the string. */
static inline bool string(struct json_cursor *c)
{
    for (const unsigned char *p = (const unsigned char *)c->p;; p++) {
        if (*p == '"') {
            c->p = (const char *)p + 1;
            return true;
        }
        if (*p < ' ' || (*p == '\\' && *++p < ' '))
            return false;
    }
}

/* The next quote, bracket or brace of either kind, or line feed. */
static inline const char *next_mark(const char *p)
{
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"'), feed = _mm_set1_epi8('\n'), bit = _mm_set1_epi8(0x20);
    const __m128i opens = _mm_set1_epi8('{'), closes = _mm_set1_epi8('}'); /* with that bit '[' and ']' too */
    for (;; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p), y = _mm_or_si128(x, bit);
        __m128i a = _mm_or_si128(_mm_cmpeq_epi8(x, quote), _mm_cmpeq_epi8(x, feed));
        __m128i b = _mm_or_si128(_mm_cmpeq_epi8(y, opens), _mm_cmpeq_epi8(y, closes));
        int found = _mm_movemask_epi8(_mm_or_si128(a, b));
        if (found)
            return p + __builtin_ctz((unsigned)found);
    }
#else
    while (*p != '"' && *p != '\n' && (*p | 0x20) != '{' && (*p | 0x20) != '}')
        p++;
    return p;
#endif
}

/* Behind the bracket that closes the one at *p. Brackets match, and are at most 64 deep. */
static bool nested(struct json_cursor *c)
{
    uint64_t braces = 0; /* a bit for each that is open: 1 for a brace */
    int depth = 0;
    for (;;) {
        char mark = *(c->p = next_mark(c->p));
        c->p++;
        if (mark == '"') {
            if (!string(c))
                return false;
        } else if (mark == '{' || mark == '[') {
            if (++depth > 64)
                return false;
            braces = braces << 1 | (mark == '{');
        } else if (mark == '\n' || (braces & 1) != (mark == '}')) {
            return false;
        } else {
            braces >>= 1;
            if (--depth == 0)
                return true;
        }
    }
}

static bool word(struct json_cursor *c, const char *text)
{
    size_t n = strlen(text);
    if (strncmp(c->p, text, n) != 0)
        return false;
    c->p += n;
    return true;
}

/* ---- numbers ---- */

struct json_number {
    bool whole; /* an integer that `integer` holds */
    int64_t integer;
    double real;
};

/* w·10^e, rounded once; false where this cannot tell. Powers of ten up to 10^22 are doubles, up to 10^27 long
 * doubles of 64 bits. One operation on these rounds to 64 bits, of which the last eleven then decide how the
 * double is rounded: rightly, unless they say that it is just half way. (W. D. Clinger, How to read floating
 * point numbers accurately, PLDI 1990.) */
static inline bool decimal(uint64_t w, int e, double *to)
{
    static const double power[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                   1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (w <= (uint64_t)1 << 53 && e >= -22 && e <= 22) {
        *to = e < 0 ? (double)w / power[-e] : (double)w * power[e];
        return true;
    }
#if LDBL_MANT_DIG == 64
    static const long double long_power[] = {
        1e0L,  1e1L,  1e2L,  1e3L,  1e4L,  1e5L,  1e6L,  1e7L,  1e8L,  1e9L,  1e10L, 1e11L, 1e12L, 1e13L,
        1e14L, 1e15L, 1e16L, 1e17L, 1e18L, 1e19L, 1e20L, 1e21L, 1e22L, 1e23L, 1e24L, 1e25L, 1e26L, 1e27L};
    uint64_t bits;
    if (w == 0 || e < -27 || e > 27)
        return false;
    long double x = e < 0 ? (long double)w / long_power[-e] : (long double)w * long_power[e];
    memcpy(&bits, &x, sizeof bits);
    *to = (double)x;
    return (bits & 0x7ff) != 0x400;
#else
    return false;
#endif
}

/* Digits into *w, while they fit; how many there are. */
static inline int digits(struct json_cursor *c, uint64_t *w, int *kept)
{
    const char *from = c->p;
    for (; *c->p >= '0' && *c->p <= '9'; c->p++)
        if (*kept < 19) {
            *w = *w * 10 + (uint64_t)(*c->p - '0');
            *kept += *w > 0;
        } else {
            *kept = 20;
        }
    return (int)(c->p - from);
}

static inline bool exponent(struct json_cursor *c, int *e)
{
    bool minus = *++c->p == '-';
    uint64_t w = 0;
    int kept = 0;
    c->p += *c->p == '-' || *c->p == '+';
    if (!digits(c, &w, &kept))
        return false;
    int x = w < 100000 && kept < 20 ? (int)w : 100000;
    *e += minus ? -x : x;
    return true;
}

static bool number(struct json_cursor *c, struct json_number *n)
{
    const char *from = c->p;
    bool minus = *c->p == '-', fraction = false;
    uint64_t w = 0;
    int kept = 0, e = 0;
    c->p += minus;
    const char *first = c->p;
    int whole = digits(c, &w, &kept);
    if (!whole || (*first == '0' && whole > 1))
        return minus && word(c, "Infinity") ? (*n = (struct json_number){.real = -INFINITY}, true) : false;
    if (*c->p == '.') {
        c->p++;
        e = -digits(c, &w, &kept);
        fraction = true;
        if (!e)
            return false;
    }
    if (*c->p == 'e' || *c->p == 'E') {
        fraction = true;
        if (!exponent(c, &e))
            return false;
    }
    *n = (struct json_number){0};
    if (kept > 19 || !decimal(w, e, &n->real)) {
        n->real = strtod(from, NULL);
    } else {
        n->whole = !fraction && w <= (uint64_t)INT64_MAX;
        if (n->whole)
            n->integer = minus ? -(int64_t)w : (int64_t)w;
        n->real = minus ? -n->real : n->real;
    }
    return true;
}

bool cursor_value(struct json_cursor *c)
{
    struct json_number n;
    switch (*c->p) {
    case '"':
        c->p++;
        return string(c);
    case '{':
    case '[':
        return nested(c);
    case 't':
        return word(c, "true");
    case 'f':
        return word(c, "false");
    case 'n':
        return word(c, "null");
    case 'N':
        return word(c, "NaN");
    case 'I':
        return word(c, "Infinity");
    default:
        return number(c, &n);
    }
}

bool cursor_real(struct json_cursor *c, double *to)
{
    struct json_number n;
    *to = NAN;
    if (*c->p != '-' && (*c->p < '0' || *c->p > '9')) {
        if (*c->p == 'I')
            *to = INFINITY;
        return cursor_value(c);
    }
    if (!number(c, &n))
        return false;
    *to = n.real;
    return true;
}

bool cursor_integer(struct json_cursor *c, int64_t *to, bool *whole)
{
    struct json_number n = {0};
    *to = 0;
    *whole = false;
    if (*c->p != '-' && (*c->p < '0' || *c->p > '9'))
        return cursor_value(c);
    if (!number(c, &n))
        return false;
    *whole = n.whole;
    *to = n.whole ? n.integer : fabs(n.real) < 9e18 ? (int64_t)n.real : 0;
    return true;
}

/* ---- objects ---- */

int cursor_member(struct json_cursor *c, struct members *m)
{
    cursor_blanks(c);
    if (*c->p == '}' && m->begun) {
        c->p++;
        return 0;
    }
    if (*c->p != (m->begun ? ',' : '{'))
        return -1;
    c->p++;
    cursor_blanks(c);
    if (!m->begun && *c->p == '}') {
        c->p++;
        return 0;
    }
    m->begun = true;
    if (*c->p != '"')
        return -1;
    m->key = ++c->p;
    if (!string(c))
        return -1;
    m->bytes = (size_t)(c->p - 1 - m->key);
    if (!cursor_take(c, ':'))
        return -1;
    cursor_blanks(c);
    return 1;
}

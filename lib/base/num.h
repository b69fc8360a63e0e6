/* SPDX-License-Identifier: MIT */
/* Numbers: overflow-checked arithmetic, strict parsing, texts of them. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* *r = a op b; false on overflow, *r then unspecified. */
static inline bool mul_ok(int64_t a, int64_t b, int64_t *r)
{
    return !__builtin_mul_overflow(a, b, r);
}
static inline bool add_ok(int64_t a, int64_t b, int64_t *r)
{
    return !__builtin_add_overflow(a, b, r);
}
static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline int64_t round_up(int64_t a, int64_t to)
{
    return ceil_div(a, to) * to;
}
static inline int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The whole of `text` is one number in [min,max]; false otherwise. No leading blanks, no trailing text, no NaN.
 */
bool parse_int(const char *text, int64_t min, int64_t max, int64_t *value);
bool parse_num(const char *text, double min, double max, double *value);

/* "1.50 GB" (powers of 1000) into buf, which it returns. */
char *human_bytes(double bytes, char buf[static 24]);
/* Shortest decimal that reads back as the same double, into buf, which it returns. */
char *exact_num(double value, char buf[static 32]);

/* The same, but whole numbers in full (bytes, not 6.4e+10) and "null" for NaN. */
char *figure_text(double value, char buf[static 32]);

#endif

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

/* Part [*first, +*count) of `total` that index i of n gets: as even as can be, the first ones longer. */
static inline void even_part(int64_t total, int64_t n, int64_t i, int64_t *first, int64_t *count)
{
    int64_t each = total / n, longer = total % n;
    *first = i * each + min64(i, longer);
    *count = each + (i < longer);
}
/* The part that `at`, in [0,total), lies in. */
static inline int64_t even_index(int64_t total, int64_t n, int64_t at)
{
    int64_t each = total / n, longer = total % n, edge = longer * (each + 1);
    return at < edge ? at / (each + 1) : longer + (at - edge) / each;
}
/* Adds `more` to the least of n numbers until, as far as it goes, all are equal; of the remainder the first
 * ones get one more. */
void pour(int64_t *have, int64_t n, int64_t more);

/* The whole of `text` is one number in [min,max]; false otherwise. No leading blanks, no trailing text, no NaN.
 */
bool parse_int(const char *text, int64_t min, int64_t max, int64_t *value);
bool parse_num(const char *text, double min, double max, double *value);

/* What a noun that is counted ends with: "%d file%s". */
static inline const char *plural(int64_t n)
{
    return n == 1 ? "" : "s";
}
/* "1.50 GB" (powers of 1000) into buf, which it returns. */
char *human_bytes(double bytes, char buf[static 24]);
/* "45 s", "12 min", "3.4 h" or "2.1 days" into buf, which it returns. */
char *human_time(double seconds, char buf[static 24]);
/* Shortest decimal that reads back as the same double, into buf, which it returns. */
char *exact_num(double value, char buf[static 32]);

/* The same, but whole numbers in full (bytes, not 6.4e+10) and "null" for NaN. */
char *figure_text(double value, char buf[static 32]);

#endif

/* SPDX-License-Identifier: MIT */
#include "base/bound.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static const struct suffix {
    const char *text;
    double times;
} ratios[] = {{"%", 0.01}, {NULL, 0}},
  seconds[] = {{"s", 1}, {"ms", 1e-3}, {"us", 1e-6}, {"min", 60}, {"h", 3600}, {NULL, 0}},
  bytes[] = {{"B", 1},      {"kB", 1e3},      {"MB", 1e6},      {"GB", 1e9},     {"TB", 1e12},
             {"KiB", 1024}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 0x1p40}, {NULL, 0}},
  flops[] = {{"K", 1e3},     {"M", 1e6},     {"G", 1e9},      {"T", 1e12},     {"FLOP", 1}, {"kFLOP", 1e3},
             {"MFLOP", 1e6}, {"GFLOP", 1e9}, {"TFLOP", 1e12}, {"PFLOP", 1e15}, {NULL, 0}},
  flop_rates[] = {{"K", 1e3},        {"M", 1e6},        {"G", 1e9},       {"T", 1e12},
                  {"FLOP/s", 1},     {"kFLOP/s", 1e3},  {"MFLOP/s", 1e6}, {"GFLOP/s", 1e9},
                  {"TFLOP/s", 1e12}, {"PFLOP/s", 1e15}, {NULL, 0}},
  counts[] = {{"%", 0.01}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {NULL, 0}};

static const struct suffix *suffixes(enum unit unit)
{
    return unit == UNIT_RATIO       ? ratios
           : unit == UNIT_SECONDS   ? seconds
           : unit == UNIT_BYTES     ? bytes
           : unit == UNIT_FLOPS     ? flops
           : unit == UNIT_FLOP_RATE ? flop_rates
                                    : counts;
}

static const char *blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* One in the last place of the number as it is written: "1.50" 0.01, "12e3" 1000. */
static double last_digit(const char *p, const char *end)
{
    int places = 0;
    double exponent = 0;
    bool fraction = false;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.')
            fraction = true;
        else if (fraction)
            places++;
    }
    if (p < end)
        exponent = (double)strtol(p + 1, NULL, 10);
    return pow(10, exponent - places);
}

/* The unit behind a number, if there is one. */
static int take_unit(struct bound *b, const char **p, enum unit unit)
{
    size_t n = **p == '%' ? 1 : 0;
    while (isalpha((unsigned char)(*p)[n]) || (n && (*p)[n] == '/'))
        n++;
    if (n == 0)
        return 0;
    for (const struct suffix *s = suffixes(unit); s->text; s++)
        if (strlen(s->text) == n && strncmp(s->text, *p, n) == 0) {
            b->value *= s->times;
            b->digit *= s->times;
            *p += n;
            return 0;
        }
    static const char *const of[] = {[UNIT_COUNT] = "counts", [UNIT_SECONDS] = "seconds",
                                     [UNIT_RATE] = "rates",   [UNIT_RATIO] = "ratios",
                                     [UNIT_BYTES] = "bytes",  [UNIT_NUMBER] = "numbers",
                                     [UNIT_FLOPS] = "FLOP",   [UNIT_FLOP_RATE] = "FLOP per second"};
    return error(STATUS_USAGE, "'%.*s' is no unit of %s", (int)(n < 20 ? n : 20), *p, of[unit]);
}

const char *bound_parse(struct bound *b, const char *text, enum unit unit, const char **at)
{
    const char *p = blanks(text);
    size_t ops = strspn(p, "<>=~");
    *b = (struct bound){0};
    *at = p;
    if (ops < 1 || ops > 2 || (ops == 2 && (p[1] != '=' || !strchr("<>", p[0])))) {
        error(STATUS_USAGE, "write NAME OP VALUE, OP one of < <= > >= = ~");
        return NULL;
    }
    memcpy(b->op, p, ops);
    *at = p = blanks(p + ops);
    const char *number = p;
    char *end;
    b->value = strtod(p, &end);
    if (end == p || strspn(p, "0123456789.eE+-") < (size_t)(end - p) || !isfinite(b->value)) {
        error(STATUS_USAGE, "'%.40s' is not a number", p);
        return NULL;
    }
    b->digit = last_digit(p, end);
    *at = p = blanks(end);
    if (take_unit(b, &p, unit) < 0)
        return NULL;
    if (unit == UNIT_RATIO && p == *at && fabs(b->value) > 1) {
        *at = number;
        error(STATUS_USAGE, "%g of a ratio is %g%%: write '%g%%', or a number up to 1", b->value,
              100 * b->value, b->value);
        return NULL;
    }
    return *at = blanks(p);
}

/* Half a digit, and what rounding of the bounds themselves may lose. */
static double room(const struct bound *b)
{
    return b->op[0] == '~' ? 0.1 * fabs(b->value) : 0.5 * b->digit + 1e-12 * fabs(b->value);
}

void bound_range(const struct bound *b, double *low, double *high)
{
    *low = -INFINITY;
    *high = INFINITY;
    if (b->op[0] == '<')
        *high = b->value;
    else if (b->op[0] == '>')
        *low = b->value;
    else {
        *low = b->value - room(b);
        *high = b->value + room(b);
    }
}

bool bound_holds(const struct bound *b, double v)
{
    switch (b->op[0]) {
    case '<':
        return b->op[1] ? v <= b->value : v < b->value;
    case '>':
        return b->op[1] ? v >= b->value : v > b->value;
    default:
        return fabs(v - b->value) <= room(b);
    }
}

/* SPDX-License-Identifier: MIT */
#include "stat/check.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int no_figure(const char *name, size_t length)
{
    char names[1600] = "";
    for (int i = 0; i < FIGURES; i++) {
        size_t n = strlen(names);
        if (figure_table[i].origin & MEASURED)
            snprintf(names + n, sizeof names - n, " %s", figure_table[i].name);
    }
    return error(STATUS_USAGE, "no figure '%.*s'; there are:%s", (int)(length < 64 ? length : 64), name, names);
}

static const char *blanks(const char *p)
{
    return p + strspn(p, " \t");
}

/* One in the last place of the number as it is written: "1.50" 0.01, "12e3" 1000. */
static double last_digit(const char *p, const char *end)
{
    int places = 0, exponent = 0;
    bool fraction = false;
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.')
            fraction = true;
        else if (fraction)
            places++;
    }
    if (p < end)
        exponent = atoi(p + 1);
    return pow(10, exponent - places);
}

int check_parse(struct check *c, const char *text)
{
    const char *name = blanks(text), *p = name + strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    size_t length = (size_t)(p - name);
    *c = (struct check){0};
    p = blanks(p);
    size_t ops = strspn(p, "<>=~");
    if (!length || ops < 1 || ops > 2 || (ops == 2 && (p[1] != '=' || !strchr("<>", p[0]))))
        return error(STATUS_USAGE, "'%s' is not a check: write NAME OP VALUE, OP one of < <= > >= = ~", text);
    c->figure = figure_find(name, length, MEASURED);
    if (!c->figure)
        return no_figure(name, length);
    memcpy(c->op, p, ops);
    p = blanks(p + ops);
    char *end;
    c->value = strtod(p, &end);
    if (end == p || strspn(p, "0123456789.eE+-") < (size_t)(end - p) || !isfinite(c->value))
        return error(STATUS_USAGE, "'%s' is not a check: '%s' is not a number", text, p);
    c->digit = last_digit(p, end);
    p = blanks(end);
    if (*p == '%') {
        c->value /= 100;
        c->digit /= 100;
        p = blanks(p + 1);
    }
    if (*p)
        return error(STATUS_USAGE, "'%s' is not a check: '%s' after the value", text, p);
    return 0;
}

bool check_holds(const struct check *c, const struct summary *s)
{
    double v = figure_value(s, c->figure);
    if (isnan(v))
        return false;
    switch (c->op[0]) {
    case '<':
        return c->op[1] ? v <= c->value : v < c->value;
    case '>':
        return c->op[1] ? v >= c->value : v > c->value;
    case '~':
        return fabs(v - c->value) <= 0.1 * fabs(c->value);
    default: /* half a digit, and what rounding of the bounds themselves may lose */
        return fabs(v - c->value) <= 0.5 * c->digit + 1e-12 * fabs(c->value);
    }
}

/* SPDX-License-Identifier: MIT */
#include "stat/check.h"

#include <math.h>
#include <stdio.h>
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

int check_parse(struct check *c, const char *text)
{
    const char *name = text + strspn(text, " \t"), *at,
               *p = name + strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    size_t length = (size_t)(p - name);
    *c = (struct check){.figure = figure_find(name, length, MEASURED)};
    const char *rest = bound_parse(&c->bound, p, c->figure ? c->figure->unit : UNIT_NUMBER, &at);
    if (length && !c->figure && (rest || at != p + strspn(p, " \t")))
        return no_figure(name, length);
    if (!length)
        error(STATUS_USAGE, "write NAME OP VALUE, OP one of < <= > >= = ~");
    else if (rest && *rest)
        error(STATUS_USAGE, "'%s' after the value", rest);
    if (!length || !rest || *rest)
        return error_prefix("'%s' is not a check", text);
    return 0;
}

bool check_holds(const struct check *c, const struct summary *s)
{
    return bound_holds(&c->bound, figure_value(s, c->figure));
}

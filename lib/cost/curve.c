/* SPDX-License-Identifier: MIT */
#include "cost/curve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"

bool curve_add(struct curve *c, double flops, double share)
{
    if (c->count == CURVE_POINTS || !(flops >= 1 && flops <= 1e24) || !(share > 0 && share <= 1))
        return false;
    if (c->count && !(flops > c->at[c->count - 1].flops))
        return false;
    c->at[c->count++] = (struct curve_point){flops, share};
    return true;
}

int curve_parse(struct curve *c, const char *text)
{
    *c = (struct curve){0};
    for (const char *p = text; *p;) {
        char *colon, *end = NULL;
        double flops = strtod(p, &colon), share = *colon == ':' ? strtod(colon + 1, &end) : 0;
        if (!end || (*end && (*end != ',' || !end[1])) || !curve_add(c, flops, share))
            return error(
                STATUS_USAGE,
                "efficiency '%.120s' must be up to %d WORK:SHARE, the work rising, as in 1e9:0.2,1e12:0.8",
                text, CURVE_POINTS);
        p = end + (*end == ',');
    }
    return 0;
}

bool curve_text(const struct curve *c, char text[static CURVE_TEXT])
{
    int n = 0;
    *text = '\0';
    for (int i = 0; i < c->count && n < CURVE_TEXT; i++)
        n += snprintf(text + n, (size_t)(CURVE_TEXT - n), "%s%.5g:%.5g", i ? "," : "", c->at[i].flops,
                      c->at[i].share);
    return n < CURVE_TEXT;
}

double curve_share(const struct curve *c, double flops)
{
    if (!c->count)
        return 1;
    int i = 0;
    while (i < c->count && c->at[i].flops < flops)
        i++;
    if (i == 0 || i == c->count)
        return c->at[i == 0 ? 0 : i - 1].share;
    const struct curve_point *a = &c->at[i - 1], *b = &c->at[i];
    double part = log(flops / a->flops) / log(b->flops / a->flops);
    return a->share + part * (b->share - a->share);
}

/* SPDX-License-Identifier: MIT */
#include "stat/texts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/num.h"

static char *next(struct texts *w)
{
    return w->s[w->next++ % TEXTS];
}

const char *text_as(struct texts *w, const char *fmt, double value)
{
    char *s = next(w);
    if (isfinite(value))
        snprintf(s, sizeof w->s[0], fmt, value);
    else
        strcpy(s, "-");
    return s;
}

const char *text_between(struct texts *w, const char *fmt, double least, double most, const char *unit)
{
    if (!isfinite(most))
        return text_as(w, fmt, most);
    char low[16], high[16], *s = next(w);
    snprintf(low, sizeof low, fmt, least);
    snprintf(high, sizeof high, fmt, most);
    snprintf(s, sizeof w->s[0], "%s%s%s%.6s", least > 0 ? low : "<= ", least > 0 ? "-" : "", high, unit);
    return s;
}

const char *text_number(struct texts *w, double v)
{
    double a = fabs(v);
    return text_as(w, a >= 1000 ? "%.0f" : a >= 100 ? "%.1f" : a >= 1 || a == 0 ? "%.3f" : "%.4g", v);
}

const char *text_count(struct texts *w, double v)
{
    return text_as(w, "%.0f", v);
}

const char *text_percent(struct texts *w, double ratio, int digits)
{
    return text_as(w, digits == 2 ? "%.2f %%" : "%.1f %%", 100 * ratio);
}

const char *text_scaled(struct texts *w, double v, const char *letters)
{
    int u = 0;
    if (!isfinite(v))
        return text_as(w, "", v);
    for (; fabs(v) >= 999.5 && u < 6; u++)
        v /= 1000;
    char *s = next(w);
    snprintf(s, sizeof w->s[0], "%.3g%s%.*s", v, letters[0] == ' ' ? " " : "", u > 0, letters + u);
    return s;
}

const char *text_bytes(struct texts *w, double bytes)
{
    return isfinite(bytes) ? human_bytes(bytes, next(w)) : text_as(w, "", bytes);
}

const char *text_figure(struct texts *w, const struct figure *x, double v)
{
    switch (x->unit) {
    case UNIT_RATIO:
        return text_percent(w, v, 2);
    case UNIT_BYTES:
        return text_bytes(w, v);
    case UNIT_COUNT:
        return text_count(w, v);
    default:
        break;
    }
    bool flops = x->unit == UNIT_FLOPS || x->unit == UNIT_FLOP_RATE;
    const char *number = flops ? text_scaled(w, v, LETTERS_SI) : text_number(w, v);
    const char *unit = x->unit == UNIT_SECONDS     ? " s"
                       : x->unit == UNIT_RATE      ? " /s"
                       : x->unit == UNIT_FLOPS     ? "FLOP"
                       : x->unit == UNIT_FLOP_RATE ? "FLOP/s"
                                                   : "";
    char *s = next(w);
    snprintf(s, sizeof w->s[0], "%.30s%s", number, unit);
    return s;
}

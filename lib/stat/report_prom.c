/* SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/num.h"
#include "stat/report.h"

char *prom_name(const struct figure *f, char buf[static 64])
{
    size_t n = (size_t)snprintf(buf, 64, "moe_");
    for (const char *p = f->name; *p && n < 56; p++) {
        buf[n++] = *p;
        bool unit = p > f->name && p[-1] == '_' && p[0] == 's' && (p[1] == '_' || !p[1]);
        if (unit)
            n += (size_t)snprintf(buf + n, 64 - n, "%s",
                                  p - f->name >= 5 && strncmp(p - 5, "_per_", 5) == 0 ? "econd" : "econds");
    }
    buf[n] = '\0';
    return buf;
}

/* In double quotes; `\`, `"` and line feeds are escaped, and what is not UTF-8 replaced. */
static void label(FILE *f, const char *name, const char *value)
{
    char *text = utf8_repair(value, strlen(value), NULL);
    fprintf(f, "%s=\"", name);
    for (const char *p = text; *p; p++) {
        if (*p == '\\' || *p == '"')
            fputc('\\', f);
        fputc(*p, f);
    }
    fputc('"', f);
    free(text);
}

void report_prom(FILE *f, const struct report *r)
{
    char name[64], value[32];
    for (int i = 0; i < FIGURES; i++) {
        const struct figure *x = &figure_table[i];
        double v = figure_value(&r->s, x);
        if (!(x->origin & MEASURED) || isnan(v))
            continue;
        prom_name(x, name);
        fprintf(f, "# HELP %s %s: %s\n# TYPE %s gauge\n%s{", name, x->name, x->meaning, name, name);
        label(f, "model", r->log->model);
        fputs("} ", f);
        fprintf(f, "%s\n", figure_text(v, value));
    }
}

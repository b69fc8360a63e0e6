/* SPDX-License-Identifier: MIT */
/* Pictures in characters, of what gnuplot does not draw on a terminal. */
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "draw/panels.h"

static void shares(FILE *f, const struct summary *s, int columns)
{
    int room = columns - 24;
    fputs("\nWhere the time of a step goes (mean over ranks)\n\n", f);
    for (int i = 0; i < PHASES; i++) {
        double share = phase_share(s, i);
        if (!isfinite(share))
            continue;
        int n = (int)max64(0, min64(room, llround(share * room)));
        fprintf(f, "  %-10s%6.1f %%  ", phase_name[i], 100 * share);
        for (int k = 0; k < n; k++)
            fputc('#', f);
        fputc('\n', f);
    }
}

/* A character an expert; where there are more experts than columns, one for the busiest of several. */
static void balance(FILE *f, const struct loads *l, int columns)
{
    static const char shade[] = " .:-=+*#%@";
    int each = (int)ceil_div(l->experts, columns - 10), levels = (int)sizeof shade - 1;
    int wide = (int)max64(1, min64(3, (columns - 10) / l->experts));
    double most = 1;
    for (int pass = 0; pass < 2; pass++) {
        for (int row = 0; row < l->layers; row++) {
            const double *load = l->sum + (size_t)row * (size_t)l->experts;
            double sum = 0, top = 0;
            for (int e = 0; e < l->experts; e++)
                sum += load[e];
            if (pass)
                fprintf(f, "  %4d  |", row);
            for (int e = 0; e < l->experts; e++) {
                top = fmax(top, sum > 0 ? load[e] * l->experts / sum : 0);
                if ((e + 1) % each && e + 1 < l->experts)
                    continue;
                for (int k = 0; pass && k < wide; k++)
                    fputc(shade[min64(levels - 1, (int64_t)(top / most * levels))], f);
                most = pass ? most : fmax(most, top);
                top = 0;
            }
            if (pass)
                fputs("|\n", f);
        }
        if (!pass) {
            fprintf(
                f,
                "\nLoad of each expert (MoE layer by expert), over the mean of its layer: '%s' is 0 to %.3g\n",
                shade, most);
            if (each > 1)
                fprintf(f, "(a character is the busiest of %d experts)\n", each);
            fputc('\n', f);
        }
    }
}

int panel_text(FILE *f, const struct picture *p, enum panel which, int columns)
{
    if (which == PANEL_SCHEDULE)
        return schedule_text(f, p, columns) < 0 ? -1 : 1;
    if (which == PANEL_PHASES)
        shares(f, p->s, columns);
    else if (which == PANEL_EXPERTS)
        balance(f, p->loads, columns);
    return which == PANEL_PHASES || which == PANEL_EXPERTS;
}

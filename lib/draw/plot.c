/* SPDX-License-Identifier: MIT */
#include "draw/plot.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/words.h"
#include "draw/gnuplot.h"

struct plot {
    enum panel panel[PANELS];
    int count;
};

static int choose(struct plot *plot, const struct picture *p, const bool wanted[PANELS])
{
    bool any = false;
    for (int i = 0; i < PANELS; i++)
        any |= wanted[i];
    for (int i = 0; i < PANELS; i++) {
        if (any && !wanted[i])
            continue;
        if (panel_known(p, i))
            plot->panel[plot->count++] = (enum panel)i;
        else if (any)
            return error(STATUS_USAGE, "there is nothing to draw the panel '%s' from",
                         word_at(&panel_words, i));
    }
    return plot->count ? 0 : error(STATUS_USAGE, "the log has nothing that could be drawn");
}

/* ---- files ---- */

static void begin(FILE *f, const struct picture *p, const struct plot *plot, bool svg)
{
    int columns = plot->count > 2 ? 2 : 1, rows = (plot->count + columns - 1) / columns;
    bool tall = plot->count == 1 && plot->panel[0] == PANEL_SCHEDULE && p->timeline_count > 16;
    int width = columns * 800, height = tall               ? 200 + 20 * p->timeline_count
                                        : plot->count == 1 ? 450
                                                           : rows * 420 + 40;
    char title[256];
    if (height > 8000)
        height = 8000;
    if (svg)
        fprintf(
            f,
            "set terminal svg size %d,%d font 'Helvetica,Arial,sans-serif,14' background rgb 'white' dynamic\n",
            width, height);
    else /* twice the points, for screens and slides */
        fprintf(
            f,
            "set terminal pngcairo size %d,%d font 'sans,14' fontscale 1.7 linewidth 2 pointscale 2 background "
            "rgb 'white'\n",
            2 * width, 2 * height);
    if (plot->count == 1)
        return;
    picture_title(p, title);
    fprintf(f, "set multiplot layout %d,%d title ", rows, columns);
    gnuplot_quoted(f, title);
    fputs(" noenhanced font ',18'\n", f);
}

/* A panel that is alone in the last row may have all of it. */
static void widen(FILE *f, const struct plot *plot)
{
    int rows = (plot->count + 1) / 2;
    fprintf(f, "set origin 0,0\nset size 1,%.4f\n", (1 - 40.0 / (rows * 420 + 40)) / rows);
}

static int draw_file(FILE *out, const struct picture *p, const struct plot *plot, bool svg)
{
    FILE *script = gnuplot_script();
    int r = script ? 0 : -1;
    if (r == 0) {
        begin(script, p, plot, svg);
        picture_data(script, p);
    }
    for (int i = 0; i < plot->count && r == 0; i++) {
        if (plot->count > 2 && plot->count % 2 && i + 1 == plot->count)
            widen(script, plot);
        r = panel_draw(script, p, plot->panel[i], LOOK_FILE);
    }
    if (r == 0) {
        if (plot->count > 1)
            fputs("unset multiplot\n", script);
        r = gnuplot_run(script, out);
    }
    if (script)
        fclose(script);
    return r;
}

/* ---- a terminal ---- */

static int terminal_columns(void)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    int n = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : columns ? atoi(columns) : 0;
    return n < 40 ? 80 : n > 200 ? 200 : n;
}

static int draw_terminal(FILE *out, const struct picture *p, const struct plot *plot)
{
    int columns = terminal_columns();
    const char *colour = getenv("NO_COLOR");
    char title[256];
    picture_title(p, title);
    fprintf(out, "%s\n", title);
    for (int i = 0; i < plot->count; i++) {
        int r = panel_text(out, p, plot->panel[i], columns);
        FILE *script = r == 0 ? gnuplot_script() : NULL;
        if (r < 0 || (r == 0 && !script))
            return -1;
        if (r > 0)
            continue;
        fprintf(script, "set terminal dumb size %d,20 %s\n", columns,
                isatty(fileno(out)) && !(colour && *colour) ? "ansi256" : "mono");
        picture_data(script, p);
        r = panel_draw(script, p, plot->panel[i], LOOK_TERMINAL);
        if (r == 0)
            r = gnuplot_run(script, out);
        fclose(script);
        if (r < 0)
            return -1;
    }
    return 0;
}

/* Where the picture goes, as output_open() has it. */
static const char *target(const char *path)
{
    return strcmp(path, "-.svg") == 0 || strcmp(path, "-.png") == 0 ? "-" : path;
}

int plot_check(const char *path)
{
    if (strcmp(path, "-") != 0 && !ends_in(path, ".svg") && !ends_in(path, ".png"))
        return error(STATUS_USAGE, "'%s' ends in neither .png nor .svg", path);
    return output_check(target(path));
}

int plot_write(const char *path, const struct picture *p, const bool wanted[PANELS])
{
    bool terminal = strcmp(path, "-") == 0, svg = ends_in(path, ".svg");
    struct plot plot = {.count = 0};
    struct output o;
    TRY(choose(&plot, p, wanted));
    TRY(output_open(&o, target(path)));
    int r = terminal ? draw_terminal(o.stream, p, &plot) : draw_file(o.stream, p, &plot, svg);
    if (r < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

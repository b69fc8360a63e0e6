/* SPDX-License-Identifier: MIT */
#include "draw/panels.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "draw/gnuplot.h"

static const char *const names[] = {"loss",    "speed",    "phases",   "imbalance",
                                    "experts", "gradient", "schedule", NULL};
const struct words panel_words = WORDS(names);

/* Okabe and Ito's, with greys for what is nobody's work. */
static const char *const phase_colour[PHASES] = {
    [PHASE_FORWARD] = "#0072b2", [PHASE_BACKWARD] = "#56b4e9",  [PHASE_DISPATCH] = "#e69f00",
    [PHASE_COMBINE] = "#f0e442", [PHASE_TP] = "#cc79a7",        [PHASE_PP] = "#d55e00",
    [PHASE_DP] = "#009e73",      [PHASE_OPTIMIZER] = "#999999", [PHASE_IDLE] = "#dddddd",
};

bool panel_known(const struct picture *p, enum panel which)
{
    switch (which) {
    case PANEL_LOSS:
        return series_known(p, SERIES_LOSS);
    case PANEL_SPEED:
        return series_known(p, SERIES_RATE);
    case PANEL_PHASES:
        return phases_known(p);
    case PANEL_IMBALANCE:
        return series_known(p, SERIES_IMBALANCE);
    case PANEL_EXPERTS:
        return p->log && p->loads && p->loads->sum;
    case PANEL_GRADIENT:
        return series_known(p, SERIES_GRADIENT);
    default:
        return p->timeline_count > 0;
    }
}

/* ---- over steps ---- */

static void heading(FILE *f, const char *text)
{
    fputs("set title ", f);
    gnuplot_quoted(f, text);
    fputs(" noenhanced\n", f);
}

/* Where the run was started again. */
static void restarts(FILE *f, const struct picture *p)
{
    enum { MOST = 40 };
    fputs("unset arrow\n", f);
    for (int i = 1, n = 0; i < p->log->segment_count && n < MOST; i++) {
        const struct log_segment *g = &p->log->segments[i];
        if (g->from < 0 || g->up_to == INT64_MIN)
            continue;
        fprintf(f,
                "set arrow from %" PRId64 ".5, graph 0 to %" PRId64
                ".5, graph 1 nohead dashtype 3 linewidth 1.5 linecolor rgb '#777777'\n",
                g->from, g->from);
        n++;
    }
}

static void step_axis(FILE *f, const struct picture *p)
{
    double span = p->s->last_step - p->s->first_step;
    fprintf(f, "set xlabel 'step'\nset xrange [%.1f:%.1f]\nset format x '%%.0f'\nset xtics %s\n",
            p->s->first_step - 0.5, p->s->last_step + 0.5, span < 10 ? "1" : "autofreq");
    restarts(f, p);
}

static const char *style(const struct picture *p, enum look look)
{
    return look == LOOK_TERMINAL ? "lines"
           : p->log->count > 100 ? "lines linewidth 2"
                                 : "linespoints linewidth 2 pointtype 7 pointsize 0.5";
}

/* The mean, within what the steps behind each point lie between; divided by `unit`. */
static void curve(FILE *f, const struct picture *p, enum look look, enum series which, double unit,
                  const char *colour, const char *name)
{
    int column = series_column(which);
    fputs("plot ", f);
    if (p->log->count > POINTS && look != LOOK_TERMINAL)
        fprintf(
            f,
            "$steps using 1:($%d/%g):($%d/%g) with filledcurves linecolor rgb '%s' fillstyle transparent solid "
            "0.25 noborder title 'least to most of %zu steps', ",
            column + 1, unit, column + 2, unit, colour, (p->log->count + POINTS - 1) / POINTS);
    fprintf(f, "$steps using 1:($%d/%g) with %s linecolor rgb '%s' title '%s'", column, unit, style(p, look),
            colour, name);
}

static void loss(FILE *f, const struct picture *p, enum look look)
{
    heading(f, look == LOOK_PAGE ? "" : "Loss");
    fputs("set ylabel 'loss (nats a token)'\nset key top right\n", f);
    curve(f, p, look, SERIES_LOSS, 1, "#0072b2", "training");
    if (p->log->evals)
        fputs(", $evals with linespoints linewidth 2 linecolor rgb '#d55e00' pointtype 5 pointsize 0.8 title "
              "'evaluation'",
              f);
    fputc('\n', f);
}

static void speed(FILE *f, const struct picture *p, enum look look)
{
    char text[128] = "Throughput";
    if (isfinite(p->s->mfu))
        snprintf(text, sizeof text, "Throughput (MFU %.1f %%)", 100 * p->s->mfu);
    heading(f, look == LOOK_PAGE ? "" : text);
    double most = p->s->tokens_per_s_p99, unit = most >= 2e6 ? 1e6 : most >= 2e3 ? 1e3 : 1;
    fprintf(f, "set ylabel '%stokens/s'\nset yrange [0:*]\nset key tmargin right horizontal\n",
            unit >= 1e6   ? "million "
            : unit >= 1e3 ? "thousand "
                          : "");
    curve(f, p, look, SERIES_RATE, unit, "#009e73", "each step");
    if (isfinite(p->s->tokens_per_s))
        fprintf(f, ", %.9g with lines dashtype 2 linewidth 2 linecolor rgb '#444444' title 'mean'",
                p->s->tokens_per_s / unit);
    fputc('\n', f);
}

static void imbalance(FILE *f, const struct picture *p, enum look look)
{
    heading(f, look == LOOK_PAGE ? "" : "Imbalance of the experts' loads");
    fputs("set ylabel 'busiest expert / mean'\nset yrange [1:*]\nset key off\n", f);
    curve(f, p, look, SERIES_IMBALANCE, 1, "#d55e00", "max/mean");
    fputc('\n', f);
}

static void gradient(FILE *f, const struct picture *p, enum look look)
{
    heading(f, look == LOOK_PAGE ? "" : "Gradient norm, before clipping");
    fputs("set ylabel 'norm'\nset yrange [0:*]\nset key off\n", f);
    curve(f, p, look, SERIES_GRADIENT, 1, "#cc79a7", "gradient norm");
    fputc('\n', f);
}

/* The last phase is drawn first, from 0 to all; each one before it covers its lower part. So the legend reads
 * from top to bottom as the stack does. */
static void phases(FILE *f, const struct picture *p, enum look look)
{
    heading(f, look == LOOK_PAGE ? "" : "Where the time of a step goes (mean over ranks)");
    fputs("set ylabel 'seconds a step'\nset yrange [0:*]\nset key outside right center vertical Left reverse "
          "samplen 1\nplot ",
          f);
    bool first = true;
    for (int i = PHASES - 1; i >= 0; i--) {
        if (!(phase_share(p->s, i) > 0))
            continue;
        fprintf(f,
                "%s$steps using 1:%d with filledcurves y1=0 linecolor rgb '%s' fillstyle solid 1 noborder "
                "title '%s'",
                first ? "" : ", ", phase_column(i), phase_colour[i], phase_name[i]);
        first = false;
    }
    fputc('\n', f);
}

/* ---- the experts ---- */

static void experts(FILE *f, const struct picture *p, enum look look)
{
    const struct loads *l = p->loads;
    double most = 0;
    fputs("$loads << END\n", f);
    for (int row = 0; row < l->layers; row++) {
        const double *load = l->sum + (size_t)row * (size_t)l->experts;
        double sum = 0;
        for (int e = 0; e < l->experts; e++)
            sum += load[e];
        for (int e = 0; e < l->experts; e++) {
            double of_mean = sum > 0 ? load[e] * l->experts / sum : 0;
            most = fmax(most, of_mean);
            fprintf(f, "%d %d %.4g\n", e, row, of_mean);
        }
    }
    fputs("END\n", f);
    heading(f, look == LOOK_PAGE ? "" : "Load of each expert, over the whole log");
    fprintf(
        f,
        "set palette defined (0 '#440154', 1 '#482878', 2 '#3e4989', 3 '#31688e', 4 '#26828e', 5 '#1f9e89', "
        "6 '#35b779', 7 '#6ece58', 8 '#b5de2b', 9 '#fde725')\n"
        "set xlabel 'expert'\nset ylabel 'MoE layer'\nset cblabel 'load / mean of its layer'\nset key off\n"
        "set xrange [-0.5:%d.5]\nset yrange [%d.5:-0.5]\nset cbrange [0:%.4g]\nset xtics autofreq\nunset grid\n"
        "set format x '%%.0f'\nset format y '%%.0f'\n%s%s"
        "plot $loads using 1:2:3 with image%s\n",
        l->experts - 1, l->layers - 1, fmax(most, 1), l->experts <= 10 ? "set xtics 1\n" : "",
        l->layers <= 10 ? "set ytics 1\n" : "",
        look == LOOK_FILE && l->layers * l->experts <= 20000 ? " pixels" : "" /* sharp in every viewer */);
}

/* ---- all ---- */

int panel_draw(FILE *f, const struct picture *p, enum panel which, enum look look)
{
    static void (*const draw[PANELS])(FILE *, const struct picture *, enum look) = {
        [PANEL_LOSS] = loss,           [PANEL_SPEED] = speed,     [PANEL_PHASES] = phases,
        [PANEL_IMBALANCE] = imbalance, [PANEL_EXPERTS] = experts, [PANEL_GRADIENT] = gradient,
    };
    fputs("set border 3 linecolor rgb '#444444'\nset tics nomirror out\nset grid linecolor rgb '#cccccc' "
          "linetype 1 "
          "linewidth 0.5\nset yrange [*:*]\nset xtics autofreq\nset ytics autofreq\nset format y '%g'\nset key "
          "default "
          "noenhanced\nunset arrow\nset title ''\n",
          f);
    if (look == LOOK_TERMINAL)
        fputs("unset grid\n", f);
    if (which == PANEL_SCHEDULE)
        return schedule_draw(f, p, look);
    if (which != PANEL_EXPERTS)
        step_axis(f, p);
    draw[which](f, p, look);
    return 0;
}

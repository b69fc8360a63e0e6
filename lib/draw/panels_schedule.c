/* SPDX-License-Identifier: MIT */
/* A row a rank, of lanes: above what it computed and the communication that waits for; below that what goes
 * beside it, rows of experts and buckets of gradients; last its messages to other stages. The time that is
 * shown is cut into cells; a cell has one colour, and colours have as many cells as what they stand for took
 * time. So the picture has the same size however many operations there were. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "draw/gnuplot.h"
#include "draw/panels.h"
#include "draw/spans.h"

enum { CELLS = 2000, KINDS = 6, IDLE = -1 };
enum lane { LANE_COMPUTE, LANE_BESIDE, LANE_MESSAGES, LANES };

/* Okabe and Ito's; groups as moe-plan(5) names them. */
static const struct kind {
    const char *name, *colour, *groups;
    char letter; /* on a terminal */
} kinds[KINDS] = {
    {"computing", "0072b2", "", '#'},
    {"experts (ep)", "e69f00", " ep ", 'e'},
    {"tensor (tp)", "cc79a7", " tp etp kv ", 't'},
    {"pipeline (pp)", "d55e00", " pp ", 'p'},
    {"gradients (dp)", "009e73", " dp edp dp-cp cp ", 'd'},
    {"other groups", "999999", "", 'o'},
};

struct window {
    int64_t first, last;         /* steps */
    double zero_s, from_s, to_s; /* of the trace's clock */
    bool lane[LANES];            /* which there are; that of what is computed always is */
    bool there[KINDS];
};

typedef double cells[LANES][CELLS][KINDS]; /* seconds */

static int kind_of(const struct rank_span *s)
{
    char wanted[SPAN_NAME + 2];
    if (!*s->group)
        return 0;
    snprintf(wanted, sizeof wanted, " %s ", s->group);
    for (int i = 1; i < KINDS - 1; i++)
        if (strstr(kinds[i].groups, wanted))
            return i;
    return KINDS - 1;
}

static enum lane lane_of(const struct span_file *f, const struct rank_span *s)
{
    const char *stream = f->stream[s->stream];
    if (strncmp(stream, "in", 2) == 0 || strncmp(stream, "out", 3) == 0)
        return LANE_MESSAGES;
    return strcmp(stream, "rows") == 0 || strcmp(stream, "buckets") == 0 ? LANE_BESIDE : LANE_COMPUTE;
}

/* ---- what is shown ---- */

/* The steps asked for; of all of them the last. */
static int measure(struct window *w, const struct picture *p)
{
    bool all = p->first == 0 && p->last == INT64_MAX;
    struct span_file f;
    struct rank_span s;
    int r = 0, ranks;
    *w = (struct window){
        .first = p->first, .last = p->last, .from_s = INFINITY, .to_s = -INFINITY, .lane = {true}};
    TRY(spans_heads(p->timelines, p->timeline_count, &w->zero_s, &ranks));
    for (int i = 0; i < p->timeline_count && r == 0; i++) {
        TRY(spans_open(&f, p->timelines[i]));
        while ((r = spans_next(&f, &s)) > 0) {
            double offset = f.unix_s - w->zero_s;
            if (all && s.step > w->first) {
                w->first = s.step;
                w->from_s = INFINITY;
                w->to_s = -INFINITY;
            }
            if (s.step < w->first || s.step > w->last)
                continue;
            w->from_s = fmin(w->from_s, offset + s.start_s);
            w->to_s = fmax(w->to_s, offset + s.end_s);
            w->lane[lane_of(&f, &s)] = true;
            w->there[kind_of(&s)] = true;
        }
        if (f.skipped)
            notice("%s: %zu lines are no records of a timeline, and were skipped", f.path, f.skipped);
        spans_close(&f);
    }
    if (r == 0 && !(w->to_s > w->from_s))
        return error(STATUS_USAGE, "'%s' has no operation of these steps", p->timelines[0]);
    if (r == 0 && p->timeline_count < ranks)
        notice("the picture has %d of the run's %d ranks: the others' timelines are not named",
               p->timeline_count, ranks);
    w->last = all ? w->first : w->last;
    return r;
}

/* ---- a rank ---- */

static void add(cells c, const struct window *w, enum lane lane, int kind, double from, double to)
{
    double cell = (w->to_s - w->from_s) / CELLS;
    int first = (int)max64(0, min64(CELLS - 1, (int64_t)((from - w->from_s) / cell)));
    for (int i = first; i < CELLS && w->from_s + i * cell < to; i++) {
        double begin = fmax(from, w->from_s + i * cell), end = fmin(to, w->from_s + (i + 1) * cell);
        if (end > begin)
            c[lane][i][kind] += end - begin;
    }
}

static int fill(cells c, const struct window *w, const char *path, int *rank)
{
    struct span_file f;
    struct rank_span s;
    int r;
    TRY(spans_open(&f, path));
    *rank = f.rank;
    double offset = f.unix_s - w->zero_s;
    while ((r = spans_next(&f, &s)) > 0)
        if (s.step >= w->first && s.step <= w->last)
            add(c, w, lane_of(&f, &s), kind_of(&s), offset + s.start_s, offset + s.end_s);
    spans_close(&f);
    return r;
}

/* What a cell shows, where several kinds share it: whichever is furthest behind its share so far, so that each
 * has as many cells as it took time. The last of `due` is for idle time. Cells are taken in order. */
static int shown(double due[static KINDS + 1], const double *cell, double cell_s)
{
    int most = KINDS;
    double sum = 0;
    for (int k = 0; k < KINDS; k++)
        sum += cell[k];
    for (int k = 0; k < KINDS; k++) /* streams of a lane that were busy at once share the cell */
        due[k] += sum > cell_s ? cell[k] * cell_s / sum : cell[k];
    due[KINDS] += fmax(0, cell_s - sum);
    for (int k = KINDS - 1; k >= 0; k--)
        if (due[k] >= due[most])
            most = k;
    due[most] -= cell_s;
    return most == KINDS ? IDLE : most;
}

/* Where in its row a lane is: of 0.84 each that is not computing's has 0.26, of two 0.2, with a gap above. */
static void place_lane(const struct window *w, enum lane lane, double *bottom, double *top)
{
    int others = w->lane[LANE_BESIDE] + w->lane[LANE_MESSAGES];
    int below = lane == LANE_COMPUTE ? others : lane == LANE_BESIDE ? w->lane[LANE_MESSAGES] : 0;
    double height = others == 2 ? 0.2 : 0.26, gap = 0.04;
    *top = 0.42 - below * (height + gap);
    *bottom = lane == LANE_COMPUTE ? -0.42 : *top - height;
}

/* Boxes: from, to, bottom, top, colour. */
static void write_lane(FILE *f, cells c, const struct window *w, int rank, enum lane lane, double scale)
{
    double cell = (w->to_s - w->from_s) / CELLS, bottom, top;
    place_lane(w, lane, &bottom, &top);
    double due[KINDS + 1] = {0};
    int kind = shown(due, c[lane][0], cell), next;
    for (int i = 0, n; i < CELLS; i += n, kind = next) {
        next = IDLE;
        for (n = 1; i + n < CELLS && (next = shown(due, c[lane][i + n], cell)) == kind;)
            n++;
        if (kind != IDLE)
            fprintf(f, "%.7g %.7g %.2f %.2f 0x%s\n", i * cell * scale, (i + n) * cell * scale, rank + bottom,
                    rank + top, kinds[kind].colour);
    }
}

/* ---- all ---- */

static int write_boxes(FILE *f, const struct picture *p, const struct window *w, double scale, int *highest)
{
    cells *c = xmalloc(sizeof *c);
    int r = 0, rank;
    fputs("$schedule << END\n", f);
    for (int i = 0; i < p->timeline_count && r == 0; i++) {
        memset(c, 0, sizeof *c);
        r = fill(*c, w, p->timelines[i], &rank);
        for (enum lane lane = 0; r == 0 && lane < LANES; lane++)
            if (w->lane[lane])
                write_lane(f, *c, w, rank, lane, scale);
        if (r == 0 && rank > *highest)
            *highest = rank;
    }
    fputs("END\n", f);
    free(c);
    return r;
}

static void title_of(const struct window *w, char *title, size_t size)
{
    static const char *const below[2][2] = {
        {"", " (below: its messages to other stages)"},
        {" (below: what it sent beside)", " (below: what it sent beside; messages to other stages)"}};
    if (w->first == w->last)
        snprintf(title, size, "Step %" PRId64 ": what each rank did%s", w->first,
                 below[w->lane[LANE_BESIDE]][w->lane[LANE_MESSAGES]]);
    else
        snprintf(title, size, "Steps %" PRId64 " to %" PRId64 ": what each rank did", w->first, w->last);
}

static void text_lane(FILE *f, cells c, const struct window *w, int rank, enum lane lane, int columns)
{
    double cell = (w->to_s - w->from_s) / CELLS;
    double due[KINDS + 1] = {0};
    fprintf(f, lane ? "        |" : "  %5d |", rank);
    for (int i = 0; i < columns; i++) {
        double sum[KINDS] = {0};
        int from = (int)((int64_t)i * CELLS / columns), to = (int)((int64_t)(i + 1) * CELLS / columns);
        for (int k = from; k < to; k++)
            for (int j = 0; j < KINDS; j++)
                sum[j] += c[lane][k][j];
        int kind = shown(due, sum, cell * (to - from));
        fputc(kind == IDLE ? ' ' : kinds[kind].letter, f);
    }
    fputs("|\n", f);
}

int schedule_text(FILE *f, const struct picture *p, int columns)
{
    struct window w;
    char title[120];
    int r = 0, rank;
    TRY(measure(&w, p));
    title_of(&w, title, sizeof title);
    fprintf(f, "\n%s\n%.4g ms:", title, (w.to_s - w.from_s) * 1000);
    for (int i = 0; i < KINDS; i++)
        if (w.there[i])
            fprintf(f, "  %c %s", kinds[i].letter, kinds[i].name);
    fputs("\n\n", f);
    cells *c = xmalloc(sizeof *c);
    for (int i = 0; i < p->timeline_count && r == 0; i++) {
        memset(c, 0, sizeof *c);
        r = fill(*c, &w, p->timelines[i], &rank);
        for (enum lane lane = 0; r == 0 && lane < LANES; lane++)
            if (w.lane[lane])
                text_lane(f, *c, &w, rank, lane, columns - 10);
    }
    free(c);
    return r;
}

int schedule_draw(FILE *f, const struct picture *p, enum look look)
{
    struct window w;
    char title[120];
    int highest = 0;
    TRY(measure(&w, p));
    bool ms = w.to_s - w.from_s < 2;
    double scale = ms ? 1000 : 1;
    TRY(write_boxes(f, p, &w, scale, &highest));
    title_of(&w, title, sizeof title);
    fputs("set title ", f);
    gnuplot_quoted(f, look == LOOK_PAGE ? "" : title);
    fprintf(f,
            " noenhanced\nset xlabel ''\nset ylabel 'rank'\nset xrange [0:%.7g]\nset yrange [%d.6:-0.6]\n"
            "set format x '%%g %s'\nset format y '%%.0f'\nunset grid\n%s"
            "set key outside center bottom horizontal Left reverse samplen 0.7 maxrows 1 width 1\nplot ",
            (w.to_s - w.from_s) * scale, highest, ms ? "ms" : "s", highest <= 16 ? "set ytics 1\n" : "");
    for (int i = 0; i < KINDS; i++)
        if (w.there[i])
            fprintf(f, "keyentry with boxes fillstyle solid 1 linecolor rgb '#%s' title \"%s\", ",
                    kinds[i].colour, kinds[i].name);
    fputs("$schedule using (0.5*($1+$2)):(0.5*($3+$4)):1:2:3:4:5 with boxxyerror linecolor rgb variable "
          "fillstyle "
          "solid 1 noborder notitle\n",
          f);
    return 0;
}

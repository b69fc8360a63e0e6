/* SPDX-License-Identifier: MIT */
#include "draw/diagram.h"

#include "base/error.h"
#include "base/file.h"
#include "cost/simulate.h"
#include "draw/gnuplot.h"
#include "plan/schedule.h"

/* Of more operations than LABELS the names would cover each other. */
enum { LABELS = 800, WIDTH = 1200, MOST_HEIGHT = 8000 };

/* Okabe and Ito's. */
static const struct op_look {
    char kind;
    const char *name, *colour;
} looks[] = {{'F', "forward", "56b4e9"}, {'B', "backward", "e69f00"}, {'W', "weight gradients", "009e73"}};
enum { LOOKS = sizeof looks / sizeof *looks };

static const struct op_look *look_of(char kind)
{
    const struct op_look *x = looks;
    while (x->kind != kind)
        x++;
    return x;
}

/* Rows: from, to, rank, colour, name. Returns how many. */
static int64_t write_ops(FILE *f, const struct plan *p, const struct simulation *s)
{
    int64_t count = 0;
    fputs("$ops << END\n", f);
    for (int i = 0; i < s->ranks; i++) {
        const struct program *g = &p->programs[i];
        bool split = program_splits_backward(g);
        for (int k = 0; k < g->count; k++, count++) {
            char name[OP_TEXT];
            double from = s->start_s[i][k], to = from + op_units(&g->ops[k], split);
            fprintf(f, "%g %g %d 0x%s %s\n", from, to, i, look_of(g->ops[k].kind)->colour,
                    op_text(&g->ops[k], p->axes.vpp > 1, name));
        }
    }
    fputs("END\n", f);
    return count;
}

static void write_script(FILE *f, const struct plan *p, const struct simulation *s)
{
    int height = s->ranks < (MOST_HEIGHT - 150) / 32 ? 150 + 32 * s->ranks : MOST_HEIGHT;
    bool split = program_splits_backward(&p->programs[0]);
    fprintf(f,
            "set terminal svg size %d,%d font 'Helvetica,Arial,sans-serif,14' background rgb 'white' dynamic\n"
            "set title '%s of %d stages, %lld microbatches: %.3g%% idle' noenhanced\n"
            "set xrange [0:%g]\nset yrange [%d.5:-0.5]\nset ytics 1\nset format y 'pp %%.0f'\n"
            "set key outside center bottom horizontal Left reverse samplen 0.7 maxrows 1 width 1\n",
            WIDTH, height, plan_schedule(p)->name, s->ranks * (int)p->axes.vpp,
            (long long)p->batch.microbatches, 100 * s->bubble, s->span_s, s->ranks - 1);
    int64_t count = write_ops(f, p, s);
    fputs("plot ", f);
    for (int i = 0; i < LOOKS; i++)
        if (looks[i].kind != 'W' || split)
            fprintf(f, "keyentry with boxes fillstyle solid 1 linecolor rgb '#%s' title '%s', ",
                    looks[i].colour, looks[i].name);
    fputs("$ops using (0.5*($1+$2)):3:1:2:($3-0.4):($3+0.4):4 with boxxyerror linecolor rgb variable "
          "fillstyle solid 1 border rgb 'white' notitle",
          f);
    if (count <= LABELS)
        fputs(", $ops using (0.5*($1+$2)):3:5 with labels noenhanced font ',10' notitle", f);
    fputs("\n", f);
}

static int draw(FILE *out, const struct plan *p, const struct simulation *s)
{
    FILE *script = gnuplot_script();
    if (!script)
        return -1;
    write_script(script, p, s);
    int r = gnuplot_run(script, out);
    fclose(script);
    return r;
}

int diagram_write(const struct plan *p, const char *path)
{
    struct simulation s;
    struct output o;
    TRY(plan_simulate(p, 1, 1, 1, &s));
    int r = output_open(&o, path);
    if (r == 0) {
        r = draw(o.stream, p, &s);
        if (r < 0)
            output_abandon(&o);
        else
            r = output_commit(&o);
    }
    simulation_release(&s);
    return r;
}

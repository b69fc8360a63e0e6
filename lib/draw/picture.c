/* SPDX-License-Identifier: MIT */
#include "draw/picture.h"
#include "base/num.h"

#include <inttypes.h>
#include <math.h>

void picture_title(const struct picture *p, char title[static 256])
{
    int n = 0;
    *title = '\0';
    if (p->log) {
        n = snprintf(title, 200, "%s%s%.0f steps", p->log->model, *p->log->model ? ", " : "", p->s->steps);
        if (p->log->world > 0)
            snprintf(title + n, 256 - (size_t)n, ", %d rank%s", p->log->world, plural(p->log->world));
    } else
        snprintf(title, 256, "schedule of %d rank%s", p->timeline_count, plural(p->timeline_count));
}

struct mean {
    double sum, least, most;
    int64_t n;
};

struct picture_row {
    int64_t first, last; /* steps */
    double tokens, time_s;
    struct mean of[SERIES];
    double phase_s[PHASES];
    int64_t with_phases;
};

static void add(struct mean *m, double v)
{
    if (!isfinite(v))
        return;
    m->least = m->n ? fmin(m->least, v) : v;
    m->most = m->n ? fmax(m->most, v) : v;
    m->sum += v;
    m->n++;
}

static void add_step(struct picture_row *row, const struct step_record *r)
{
    double rate = NAN;
    bool phases = false;
    if (step_rate(r, &rate)) {
        row->tokens += (double)r->tokens;
        row->time_s += r->time_s;
    }
    row->last = r->step;
    add(&row->of[SERIES_LOSS], r->loss);
    add(&row->of[SERIES_RATE], rate);
    add(&row->of[SERIES_IMBALANCE], r->load_max_over_mean);
    add(&row->of[SERIES_GRADIENT], r->grad_norm);
    for (int i = 0; i < PHASES; i++)
        if (isfinite(r->phase_s[i])) {
            row->phase_s[i] += r->phase_s[i];
            phases = true;
        }
    row->with_phases += phases;
}

static void write_row(FILE *f, const struct picture_row *row)
{
    double sum = 0;
    fprintf(f, "%.9g", 0.5 * ((double)row->first + (double)row->last));
    for (int i = 0; i < SERIES; i++) {
        const struct mean *m = &row->of[i];
        double mean = m->sum / (double)m->n;
        if (i == SERIES_RATE && m->n)
            mean = row->tokens / row->time_s;
        if (m->n)
            fprintf(f, " %.9g %.9g %.9g", mean, m->least, m->most);
        else
            fputs(" NaN NaN NaN", f);
    }
    for (int i = 0; i < PHASES; i++) {
        sum += row->phase_s[i];
        if (row->with_phases)
            fprintf(f, " %.9g", sum / (double)row->with_phases);
        else
            fputs(" NaN", f);
    }
    fputc('\n', f);
}

static void evaluations(FILE *f, struct steplog *log)
{
    fputs("$evals << END\n", f);
    for (size_t i = 0; i < log->evals; i++)
        if (isfinite(steplog_eval(log, i)->loss))
            fprintf(f, "%.0f %.9g\n", steplog_eval(log, i)->step, steplog_eval(log, i)->loss);
    fputs("END\n", f);
}

void picture_data(FILE *f, const struct picture *p)
{
    if (!p->log)
        return;
    size_t count = p->log->count, each = count / POINTS + (count % POINTS != 0);
    fputs("$steps << END\n", f);
    for (size_t i = 0; i < count;) {
        struct picture_row row = {.first = steplog_step(p->log, i)->step};
        for (size_t end = i + each; i < end && i < count; i++)
            add_step(&row, steplog_step(p->log, i));
        write_row(f, &row);
    }
    fputs("END\n", f);
    evaluations(f, p->log);
}

bool series_known(const struct picture *p, enum series which)
{
    struct picture_row row = {0};
    for (size_t i = 0; p->log && i < p->log->count && !row.of[which].n; i++)
        add_step(&row, steplog_step(p->log, i));
    return row.of[which].n > 0;
}

bool phases_known(const struct picture *p)
{
    for (int i = 0; p->s && i < PHASES; i++)
        if (isfinite(phase_share(p->s, i)))
            return true;
    return false;
}

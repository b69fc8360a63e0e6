/* SPDX-License-Identifier: MIT */
/* Whether training goes well: the loss at the end, and jumps of the gradient. */
#include <math.h>
#include <string.h>

#include "stat/sum.h"
#include "stat/summary_parts.h"

const enum figure_id router_loss_figure[ROUTER_LOSSES] = {
#define X(id, ...) [id] = FIGURE_##id,
    ROUTER_LOSS_ROWS(X)
#undef X
};

enum { NEAR = 64, NEAR_LEAST = 16 };
#define SPIKE 3 /* times the median of those near */

/* The last NEAR values, in the order that they came and in ascending order. */
struct near {
    double came[NEAR], sorted[NEAR];
    int count, next;
};

static double median(const struct near *n)
{
    int half = n->count / 2;
    return n->count % 2 ? n->sorted[half] : (n->sorted[half - 1] + n->sorted[half]) / 2;
}

static void near_add(struct near *n, double x)
{
    int i;
    if (n->count == NEAR) {
        for (i = 0; n->sorted[i] != n->came[n->next]; i++)
            ;
        memmove(&n->sorted[i], &n->sorted[i + 1], (size_t)(NEAR - 1 - i) * sizeof(double));
        n->count--;
    }
    for (i = n->count; i > 0 && n->sorted[i - 1] > x; i--)
        n->sorted[i] = n->sorted[i - 1];
    n->sorted[i] = x;
    n->count++;
    n->came[n->next] = x;
    n->next = (n->next + 1) % NEAR;
}

static double spikes(struct steplog *log)
{
    struct near n = {0};
    double count = 0, any = 0;
    for (size_t i = 0; i < log->count; i++) {
        double norm = steplog_step(log, i)->grad_norm;
        if (!isfinite(norm))
            continue;
        any++;
        count += n.count >= NEAR_LEAST && norm > SPIKE * median(&n);
        near_add(&n, norm);
    }
    return any > 0 ? count : NAN;
}

void part_losses(struct summary *s, struct steplog *log)
{
    size_t tenth = log->count / 10, window = tenth < 20 ? 20 : tenth > 1000 ? 1000 : tenth;
    size_t from = log->count > window ? log->count - window : 0;
    struct sum loss = {0}, step = {0}, xy = {0}, xx = {0};
    s->grad_norm_spikes = spikes(log);
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (!isfinite(r->loss))
            continue;
        sum_add(&loss, r->loss);
        sum_add(&step, (double)r->step);
    }
    s->loss_end = sum_mean(&loss);
    for (size_t i = from; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        double dx = (double)r->step - sum_mean(&step);
        if (!isfinite(r->loss))
            continue;
        sum_add(&xy, dx * (r->loss - s->loss_end));
        sum_add(&xx, dx * dx);
    }
    s->loss_slope = sum_value(&xx) > 0 ? sum_value(&xy) / sum_value(&xx) : NAN;
}

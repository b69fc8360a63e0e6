/* SPDX-License-Identifier: MIT */
#include "cost/predict.h"

#include <math.h>

#include "base/error.h"
#include "cost/cluster.h"
#include "cost/memory.h"
#include "cost/seconds.h"
#include "cost/simulate.h"
#include "model/size.h"

/* Operations over what all ranks could do at their peak. */
static double of_peak(const struct plan *p, double flops_per_token)
{
    double peak = machine_peak(&p->machine, p->training.precision);
    return p->predict.tokens_per_s * flops_per_token / (p->world * peak);
}

static int predict_seconds(struct plan *p)
{
    struct predict *x = &p->predict;
    struct seconds even, skewed;
    TRY(plan_seconds(p, 1, &even));
    if (isnan(even.step_s))
        return 0;
    TRY(plan_seconds(p, p->routing.lambda, &skewed));
    x->seconds = SECONDS_VERSION;
    x->step_s = even.step_s;
    x->step_skewed_s = skewed.step_s;
    x->tokens_per_s = (double)p->batch.global * (double)p->batch.seq / even.step_s;
    x->mfu = of_peak(p, x->flops_per_token);
    /* full recomputation repeats the forward of the layers, a third of their operations; the head's it does
     * not */
    double head = 6 * (double)p->model.hidden * (double)p->model.vocab;
    bool again = p->training.recompute == RECOMPUTE_FULL;
    x->hfu = of_peak(p, x->flops_per_token + (again ? (x->flops_per_token - head) / 3 : 0));
    return 0;
}

int plan_predict(struct plan *p)
{
    struct simulation s;
    p->predict = (struct predict){.memory_bytes = NAN,
                                  .state_bytes = NAN,
                                  .activation_bytes = NAN,
                                  .workspace_bytes = NAN,
                                  .step_s = NAN,
                                  .tokens_per_s = NAN,
                                  .mfu = NAN,
                                  .bubble = NAN};
    p->predict.hfu = p->predict.step_skewed_s = p->predict.communicator_bytes = NAN;
    p->predict.flops_per_token = model_flops_per_token(&p->model, p->batch.seq);
    if (plan_simulate(p, 1, 1, 1, &s) < 0)
        return -1;
    p->predict.bubble = s.bubble;
    simulation_release(&s);
    TRY(memory_predict(p));
    return predict_seconds(p);
}

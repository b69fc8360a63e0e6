/* SPDX-License-Identifier: MIT */
#include "cost/predict.h"

#include <math.h>

#include "cost/memory.h"
#include "cost/simulate.h"
#include "model/size.h"

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
    p->predict.flops_per_token = model_flops_per_token(&p->model, p->batch.seq);
    if (plan_simulate(p, 1, 1, 1, &s) < 0)
        return -1;
    p->predict.bubble = s.bubble;
    simulation_release(&s);
    return memory_predict(p);
}

/* SPDX-License-Identifier: MIT */
#include "model/model.h"

#include <stdlib.h>

void model_release(struct model *m)
{
    free(m->moe);
    free(m->source);
    *m = (struct model){0};
}

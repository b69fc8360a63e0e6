/* SPDX-License-Identifier: MIT */
#include "model/model.h"

#include <stdlib.h>

const char *const mixer_name[] = {"full", "window", "linear"};

void model_release(struct model *m)
{
    free(m->moe);
    free(m->mixer);
    free(m->source);
    *m = (struct model){0};
}

/* SPDX-License-Identifier: MIT */
#include "emit/emit.h"

#include "emit/json.h"
#include "emit/slurm.h"

const struct emitter emitters[] = {
    {"slurm", plan_write_slurm},
    {"rankfile", plan_write_rankfile},
    {"json", plan_write_json},
    {NULL},
};
const struct words emitter_words = WORDS(emitters);

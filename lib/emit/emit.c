/* SPDX-License-Identifier: MIT */
#include "emit/emit.h"

#include "emit/deepspeed.h"
#include "emit/json.h"
#include "emit/megatron.h"
#include "emit/slurm.h"
#include "emit/torchtitan.h"

const struct emitter emitters[] = {
    {"megatron", plan_write_megatron},
    {"deepspeed", plan_write_deepspeed},
    {"torchtitan", plan_write_torchtitan},
    {"slurm", plan_write_slurm},
    {"rankfile", plan_write_rankfile},
    {"json", plan_write_json},
    {NULL},
};
const struct words emitter_words = WORDS(emitters);

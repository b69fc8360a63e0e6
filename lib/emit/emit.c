/* SPDX-License-Identifier: MIT */
#include "emit/emit.h"

#include "emit/json.h"

const struct emitter emitters[] = {
    {"json", plan_write_json},
    {NULL},
};
const struct words emitter_words = WORDS(emitters);

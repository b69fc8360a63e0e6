/* SPDX-License-Identifier: MIT */
/* The forms that a plan can be emitted in. To add one: a file that writes it, a row here, a part of
 * moe-partition(1). */
#ifndef EMIT_EMIT_H
#define EMIT_EMIT_H

#include "base/words.h"
#include "plan/plan.h"

struct emitter {
    const char *name;
    int (*write)(const struct plan *p, FILE *f); /* -1 with error() */
};
extern const struct emitter emitters[]; /* a NULL name ends them */
extern const struct words emitter_words;

#endif

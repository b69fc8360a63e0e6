/* SPDX-License-Identifier: MIT */
/* A checkpoint that another is made from: it is read, and never written to. */
#ifndef RECAST_ORIGIN_H
#define RECAST_ORIGIN_H

#include "ckpt/manifest.h"
#include "ckpt/map.h"
#include "recast/draft.h"

struct origin {
    const char *path;
    bool step; /* a step directory of moe-train, with the optimizer's state */
    struct model model;
    struct inventory inventory;
    struct hf_dir weights, optimizer;
    int64_t at_step; /* of a step */
};

/* Verifies the directory as `verify` does, unless told not to, and opens it. -1: status 2 for what is not whole
 * or, verified, is quantised: what it is made into could not be opened. */
int origin_open(struct origin *o, const char *path, bool verify);
void origin_release(struct origin *o);

/* All numbers of a tensor of the origin's inventory, as one piece: of its weights, or (state) of the state of
 * the optimizer. 1, 0 where the optimizer does not keep that state of it, or -1. *file: the file's name. */
int origin_piece(struct origin *o, const struct tensor *t, int state, struct piece *p, const char **file);
/* -1 (status 2) where `out`, or a link to it, would lie within the directory: nothing is added to an input. */
int origin_apart(const struct origin *o, const char *out);
/* Puts this config.json into the directory, and the small files beside the model, the tokenizer's say. */
int origin_put(const struct origin *o, const char *dir, const char *config, struct manifest *m);
/* All of a plain Hugging Face directory: those and the draft. It appears whole or not at all. */
int origin_write_like(const struct origin *o, const char *out, const char *config, struct draft *d,
                      const char *doing);

#endif

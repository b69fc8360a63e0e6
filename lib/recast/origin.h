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

/* Verifies the directory as `verify` does and opens it; says what in it is no part of the model. -1: status 2
 * for what is not whole, has a quantizer's tensors, or ones that are neither F32, BF16 nor F16. */
int origin_open(struct origin *o, const char *path);
void origin_release(struct origin *o);

/* All numbers of a tensor of the origin's inventory, as one piece: of its weights, or (state) of the state of
 * the optimizer. 1, 0 where the optimizer does not keep that state of it, or -1. *file: the file's name. */
int origin_piece(struct origin *o, const struct tensor *t, int state, struct piece *p, const char **file);
/* Copies the small files beside the model, the tokenizer's say, into the directory. */
int origin_companions(const struct origin *o, const char *dir, struct manifest *m);

#endif

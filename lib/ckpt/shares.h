/* SPDX-License-Identifier: MIT */
/* What of a checkpoint is whose: each expert's in each layer, the rest of a layer, what lies outside of
 * layers. */
#ifndef CKPT_SHARES_H
#define CKPT_SHARES_H

#include "ckpt/stats.h"
#include "model/model.h"
#include "tensors/hfdir.h"

enum { DTYPES_ROOM = 80 };

struct share {
    int layer;  /* -1: outside of the layers */
    int expert; /* -1: of the layer, or of the model, but of no expert */
    int tensors;
    int64_t bytes;               /* of weights */
    int64_t state_bytes;         /* of the optimizer */
    char dtypes[DTYPES_ROOM];    /* of weights */
    struct tensor_stats figures; /* of weights, if asked for */
};

struct shares {
    struct share *list; /* by layer and expert; those without a tensor are left out */
    int count;
    int strangers; /* tensors that are not the model's, in no share */
};

/* Of the weights and (NULL: none) the optimizer's state. A tensor that holds all experts of a layer is a tensor
 * of each, with an even part of its bytes. Quantised weights and their scales count by the module that they are
 * of. stats: all weights are read. -1 with error(). */
int shares_count(struct shares *s, const struct model *m, struct hf_dir *weights, struct hf_dir *optimizer,
                 bool stats);
void shares_release(struct shares *s);

/* Adds a dtype to a list with blanks between, unless it is there. */
void dtypes_add(char list[static DTYPES_ROOM], const char *dtype);

#endif

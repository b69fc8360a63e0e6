/* SPDX-License-Identifier: MIT */
/* Whether two config.json describe the same model: every figure that changes what it computes. */
#ifndef MODEL_COMPARE_H
#define MODEL_COMPARE_H

#include "model/model.h"

enum figure_kind {
    FIGURE_SHAPE,    /* changes a tensor's shape, or which there are */
    FIGURE_FORWARD,  /* changes what the same tensors compute */
    FIGURE_TRAINING, /* changes how they are trained: no matter to weights that are taken for first ones */
};

struct model_figure {
    const char *key; /* in config.json */
    enum figure_kind kind;
    char a[160], b[160]; /* the value in both, as text */
};

enum { MODEL_FIGURES = 60 }; /* there are no more */

/* All figures of both models, into f; their number. (Of models of two families: model_type alone.) */
int model_figures(const struct model *a, const struct model *b, struct model_figure f[static MODEL_FIGURES]);

#endif

/* SPDX-License-Identifier: MIT */
#ifndef MODEL_FAMILY_H
#define MODEL_FAMILY_H

#include "model/model.h"

/* What sets the families apart, and transformers' defaults for keys that are absent. */
struct family_style {
    const char *experts[3]; /* key, other spellings */
    const char *width;
    int64_t kv_heads; /* 0: as many as heads */
    int64_t top_k, dense_ffn, positions;
    double theta, eps, aux;
    const char *bias; /* the key that gives q, k and v biases */
    bool bias_default, renormalise;
    bool o_bias; /* it gives o one too, which we do not have */
};
extern const struct family_style family_style[FAMILIES];

#endif

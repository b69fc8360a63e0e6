/* SPDX-License-Identifier: MIT */
/* How big a model is: parameters and FLOPs. */
#ifndef MODEL_SIZE_H
#define MODEL_SIZE_H

#include "model/inventory.h"

int64_t model_parameters(const struct model *m); /* every trained tensor and buffers counted by transformers
                                                    (router correction bias) */
int64_t model_active_parameters(const struct model *m); /* with K of E experts */
/* Forward and backward FLOPs a token at this sequence length, Megatron's convention (reference: NVIDIA
 * Megatron-LM, num_floating_point_operations: causal attention halved; a sliding window counts its width where
 * that is less; a gated delta net 4·heads·width² a token, and its convolution; router not counted). */
double model_flops_per_token(const struct model *m, int64_t seq);

#endif

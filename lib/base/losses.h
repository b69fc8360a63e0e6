/* SPDX-License-Identifier: MIT */
/* The losses of routers, beside the language model's: in the recipe, the totals of a step, its record in the
 * log and the report each is a loop over this table. To add one: a row here, its option in cmd/moe-train.c,
 * its config key in model/config.c, its value and gradient in engine/router.c and the kernels router_stats and
 * router_backward, where the losses are computed together in one pass over the tokens. */
#ifndef BASE_LOSSES_H
#define BASE_LOSSES_H

enum router_loss {
    LOSS_AUX, /* load balancing, Switch form: coef · E/(K·T²) · Σ_e (Σ_t prob_te · count_e) */
    LOSS_Z,   /* coef · mean over tokens of logsumexp(logits)² */
    ROUTER_LOSSES
};

struct router_loss_style {
    const char
        *key; /* in a step's record, with its coefficient, summed over layers, averaged over microbatches */
    const char *option; /* of the coefficient */
};
extern const struct router_loss_style router_loss_style[ROUTER_LOSSES];

#endif

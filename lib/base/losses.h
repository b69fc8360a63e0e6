/* SPDX-License-Identifier: MIT */
/* The losses of routers, beside the language model's. A row gives a loss its names; the config's keys, options,
 * recipe, totals of a step, its record in the log and moe-stat's figures are made from the rows. How a loss is
 * computed is its row in engine/losses.c. */
#ifndef BASE_LOSSES_H
#define BASE_LOSSES_H

/* In the order of the log and of the recipe: X(id, key, option, config, help, meaning)
 *   id       of enum router_loss
 *   key      in a step's record, and moe-stat's figure
 *   option   of moe-train, for the coefficient, and its key in a checkpoint's recipe
 *   config   the coefficient's key in config.json
 *   help     what -h calls it
 *   meaning  what the figure is */
#define ROUTER_LOSS_ROWS(X)                                                                                    \
    X(LOSS_AUX, "aux_loss", "aux-loss", "router_aux_loss_coef", "balancing loss", "load-balancing loss")       \
    X(LOSS_Z, "z_loss", "z-loss", "router_z_loss_coef", "router z-loss", "router z-loss")

/* clang-format off */
enum router_loss {
#define X(id, ...) id,
    ROUTER_LOSS_ROWS(X)
#undef X
    ROUTER_LOSSES
};
/* clang-format on */

struct router_loss_style {
    const char *key, *option, *config;
};
extern const struct router_loss_style router_loss_style[ROUTER_LOSSES];

#endif

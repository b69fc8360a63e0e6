/* SPDX-License-Identifier: MIT */
#include "base/losses.h"

const struct router_loss_style router_loss_style[ROUTER_LOSSES] = {
    [LOSS_AUX] = {.key = "aux_loss", .option = "aux-loss"},
    [LOSS_Z] = {.key = "z_loss", .option = "z-loss"},
};

/* SPDX-License-Identifier: MIT */
#include "base/losses.h"

const struct router_loss_style router_loss_style[ROUTER_LOSSES] = {
#define X(id, key, option, config, ...) [id] = {key, option, config},
    ROUTER_LOSS_ROWS(X)
#undef X
};

/* SPDX-License-Identifier: MIT */
#include "train/run.h"

#include "base/error.h"

int run_agree(struct run *run, int r)
{
    int64_t mine = r < 0 ? ((int64_t)error_status() << 32 | (INT32_MAX - comm_rank(run->comm))) : 0,
            worst = mine;
    if (host_max(comm_world(run->comm), &worst) < 0)
        return -1;
    if (worst == 0)
        return 0;
    if (worst != mine)
        error((enum status)(worst >> 32), "%s", "");
    run->agreed = true;
    return -1;
}

bool run_is_first(const struct run *run)
{
    return comm_rank(run->comm) == 0;
}

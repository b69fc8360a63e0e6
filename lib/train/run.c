/* SPDX-License-Identifier: MIT */
#include "train/run.h"

#include "comm/agree.h"

int run_agree(struct run *run, int r)
{
    return comm_agree(run->comm, r, &run->agreed);
}

bool run_is_first(const struct run *run)
{
    return comm_rank(run->comm) == 0;
}

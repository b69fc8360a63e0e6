/* SPDX-License-Identifier: MIT */
/* Inside the kind `nccl`: NVIDIA's library, opened when it is asked for, and its errors. */
#ifndef COMM_NCCL_LIBRARY_H
#define COMM_NCCL_LIBRARY_H

#include <nccl.h>

#include "comm/ops.h"

#define NCCL_FUNCTIONS(X)                                                                                      \
    X(GetVersion)                                                                                              \
    X(GetErrorString)                                                                                          \
    X(GetLastError)                                                                                            \
    X(GetUniqueId)                                                                                             \
    X(CommInitRankConfig)                                                                                      \
    X(CommSplit)                                                                                               \
    X(CommCount)                                                                                               \
    X(CommUserRank)                                                                                            \
    X(CommGetAsyncError)                                                                                       \
    X(CommFinalize)                                                                                            \
    X(CommDestroy)                                                                                             \
    X(CommAbort)                                                                                               \
    X(GroupStart)                                                                                              \
    X(GroupEnd)                                                                                                \
    X(Send)                                                                                                    \
    X(Recv)                                                                                                    \
    X(AllGather)

struct nccl_library {
#define X(name) __typeof__(&nccl##name) name;
    NCCL_FUNCTIONS(X)
#undef X
};

/* The library, of this build's minor version or later: NULL with error() set. Opened once in a process. */
const struct nccl_library *nccl_library(void);

/* error() with NCCL's text for `code`, which `what` in the group came to with these peers, and comm_fault().
 * -1. */
int nccl_failed(const struct group *g, const char *what, ncclResult_t code, const int *peer, int count);

#endif

/* SPDX-License-Identifier: MIT */
#include "base/module.h" /* before what follows: a build without NCCL has this file all the same */

#ifdef MOEKIT_NCCL
#include "comm/nccl_library.h"

#include <dlfcn.h>
#include <string.h>

#include "base/error.h"
#include "comm/mpi_alive.h"

#define LIBRARY "libnccl.so.2"
/* A library takes what was made for its own version or an earlier one. */
#define OLDEST NCCL_VERSION(NCCL_MAJOR, NCCL_MINOR, 0)

#if OLDEST < 22800
#error "nccl.h is of a version before 2.28"
#endif

static int check_version(const struct nccl_library *l, void *module)
{
    int v = 0;
    if (l->GetVersion(&v) != ncclSuccess)
        return error(STATUS_ENV, "'%s' does not tell its version", module_path(module));
    if (v < OLDEST)
        return error(STATUS_ENV, "'%s' is NCCL %d.%d.%d, which is too old: %d.%d or later is needed",
                     module_path(module), v / 10000, v / 100 % 100, v % 100, NCCL_MAJOR, NCCL_MINOR);
    return 0;
}

const struct nccl_library *nccl_library(void)
{
    static struct nccl_library l;
    static bool open;
    if (open)
        return &l;
    void *module = module_open(LIBRARY, true);
    if (!module) {
        error_prefix("cannot load NCCL");
        return NULL;
    }
    const char *missing = NULL;
#define X(name)                                                                                                \
    *(void **)&l.name = dlsym(module, "nccl" #name);                                                           \
    missing = l.name ? missing : #name;
    NCCL_FUNCTIONS(X)
#undef X
    if (l.GetVersion && check_version(&l, module) < 0)
        return NULL;
    if (missing) {
        error(STATUS_ENV, "'%s' has no function nccl%s", module_path(module), missing);
        return NULL;
    }
    open = true;
    return &l;
}

int nccl_failed(const struct group *g, const char *what, ncclResult_t code, const int *peer, int count)
{
    const struct nccl_library *l = nccl_library();
    const char *more = l->GetLastError(NULL);
    /* Of these NCCL says that this rank has made them; others may come from anywhere. */
    bool own = code == ncclUnhandledCudaError || code == ncclInvalidArgument || code == ncclInvalidUsage;
    mpi_blame(g, what, own ? g->c->rank : -1, peer, count);
    bool known = more && *more && code != ncclSuccess;
    return error(STATUS_ENV, "%s in group '%s': NCCL: %s%s%s", what, g->name, l->GetErrorString(code),
                 known ? ": " : "", known ? more : "");
}
#endif

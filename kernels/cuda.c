/* SPDX-License-Identifier: MIT */
/* The door to kernels/cuda: a shared library that is opened when the backend is asked for, so that a program
 * made with CUDA also starts where none of CUDA's libraries are. It uses error() and kernels/failure.h of the
 * program. */
#include <dlfcn.h>

#include "backends.h"
#include "base/error.h"
#include "base/module.h"

#ifdef MOEKIT_CUDA
const struct backend *cuda_backend(int device)
{
    static const struct backend *(*open_device)(int);
    if (!open_device) {
        void *module = module_open("moekit-cuda.so", false);
        if (!module) {
            error_prefix("cannot load the cuda backend");
            return NULL;
        }
        *(void **)&open_device = dlsym(module, "cuda_open");
    }
    return open_device(device);
}
#else
const struct backend *cuda_backend(int device)
{
    error(STATUS_ENV, "this build has no cuda backend, since no CUDA toolkit was found: use --backend cpu");
    return NULL;
}
#endif

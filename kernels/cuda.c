/* SPDX-License-Identifier: MIT */
/* The door to kernels/cuda: a shared library that is opened when the backend is asked for, so that a program
 * made with CUDA also starts where none of CUDA's libraries are. It lies in ../lib/moekit seen from the
 * program's folder, or where $MOEKIT_LIB says, and uses error() and kernels/failure.h of the program. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backends.h"
#include "base/error.h"

#ifdef MOEKIT_CUDA
static void *library(void)
{
    char path[PATH_MAX], program[PATH_MAX / 2];
    const char *chosen = getenv("MOEKIT_LIB");
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *end = strrchr(program, '/');
    if (end)
        *end = '\0';
    if (chosen && *chosen)
        snprintf(path, sizeof path, "%s/moekit-cuda.so", chosen);
    else
        snprintf(path, sizeof path, "%s/../lib/moekit/moekit-cuda.so", program);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        error(STATUS_ENV, "cannot load the cuda backend: %s", dlerror());
    return module;
}

const struct backend *cuda_backend(int device)
{
    static const struct backend *(*open_device)(int);
    if (!open_device) {
        void *module = library();
        if (!module)
            return NULL;
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

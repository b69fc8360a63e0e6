/* SPDX-License-Identifier: MIT */
/* What every CUDA source begins with: the headers of CUDA, how a kernel is launched, and how it asks for shared
 * memory. The same sources are compiled by nvcc for devices, and by g++ for the emulator (t/emulator/README),
 * which is why kernels are written in a part of CUDA that both know:
 *
 *   launch()          for <<<>>>
 *   SHARED, SHARED_DYNAMIC   for __shared__ and extern __shared__
 *   ptx.h             for instructions that C++ has no word for
 *   atomics           of integers only: sums of floats must not depend on the order in which blocks run
 *   fault()           a mistake seeded on purpose, in the emulated build alone (lib/base/faults.h)
 *   none of           cooperative groups, textures, __constant__ variables, dynamic parallelism, printf */
#ifndef KERNELS_CUDA_DEVICE_H
#define KERNELS_CUDA_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <tuple>
#include <utility>

extern "C" {
#include "failure.h"
}

/* SHARED(float, tile, 64 * 72): an array of the block, its length known when compiled, aligned to 16 bytes.
 * SHARED_DYNAMIC(float, work): the launch's `shared` bytes, one such pointer a kernel, aligned to 16 bytes. */
#ifdef MOEKIT_EMULATED
#define SHARED(type, name, n)                                                                                  \
    static char name##_site;                                                                                   \
    type(&name)[n] = *static_cast<type(*)[n]>(emulated_shared(&name##_site, #name, sizeof(type[n])))
#define SHARED_DYNAMIC(type, name) type *const name = static_cast<type *>(emulated_shared_dynamic())
#else
#define SHARED(type, name, n) __shared__ __align__(16) type name[n]
#define SHARED_DYNAMIC(type, name)                                                                             \
    extern __shared__ uint4 shared_dynamic[];                                                                  \
    type *const name = reinterpret_cast<type *>(shared_dynamic)
#endif

/* Whether $MOEKIT_FAULT has this name. Each must be noticed: t/0806-cuda-faults.t. */
#ifdef MOEKIT_EMULATED
static inline bool fault(const char *name)
{
    return emulated_fault(name);
}
#else
__host__ __device__ constexpr bool fault(const char *)
{
    return false;
}
#endif

/* What a block may use without asking; launch() asks where a kernel needs more. */
constexpr size_t SHARED_UNASKED = 48 << 10;

template <class Function, class Values, size_t... I>
cudaError_t launch_values(Function kernel, Values &values, std::index_sequence<I...>, dim3 grid, dim3 block,
                          size_t shared, cudaStream_t s)
{
#ifdef MOEKIT_EMULATED
    struct call {
        Function kernel;
        Values values;
        EMULATED_UNWATCHED static void run(const void *p) /* one thread */
        {
            const call *c = static_cast<const call *>(p);
            c->kernel(std::get<I>(c->values)...);
        }
        static void drop(const void *p)
        {
            delete static_cast<const call *>(p);
        }
    };
    return emulated_launch(reinterpret_cast<const void *>(kernel), grid, block, shared, s, call::run,
                           call::drop, new call{kernel, values});
#else
    void *pointers[] = {&std::get<I>(values)..., nullptr};
    return cudaLaunchKernel(reinterpret_cast<const void *>(kernel), grid, block, pointers, shared, s);
#endif
}

/* What e means, in words for whoever runs the program. */
inline const char *device_trouble(cudaError_t e)
{
    switch (e) {
    case cudaErrorNoDevice:
        return "no device is visible (CUDA_VISIBLE_DEVICES, or the scheduler, may hide them)";
    case cudaErrorDevicesUnavailable:
        return "the device is in use by another process, or may be used by one only (nvidia-smi shows which)";
    case cudaErrorECCUncorrectable:
        return "the device's memory has an uncorrectable (ECC) error: the device must be reset or replaced";
    case cudaErrorMemoryAllocation:
        return "the device is out of memory";
    case cudaErrorNoKernelImageForDevice:
        return "this build has no code for the device";
    default:
        return cudaGetErrorString(e);
    }
}

/* Kernels are loaded, as CUDA does at their first launch, and not launched (backend.h). */
inline bool preparing;

/* The operation of ops.h that was queued last, for reports. */
inline const char *operation_queued = "none";

/* Keeps the failure if a kernel has gone wrong: all calls return its error then, whatever they are for. */
inline bool kernel_failed(void)
{
    cudaGetLastError(); /* told here; the next call shall not be blamed for it */
    cudaError_t e = cudaPeekAtLastError();
    const char *blocking = getenv("CUDA_LAUNCH_BLOCKING");
    if (e == cudaErrorECCUncorrectable)
        failure_set("cuda: %s", device_trouble(e));
    else if (e != cudaSuccess && blocking && *blocking == '1')
        failure_set("cuda: '%s' failed: %s", operation_queued, cudaGetErrorString(e));
    else if (e != cudaSuccess)
        failure_set("cuda: '%s', or an operation queued before it, failed: %s (CUDA_LAUNCH_BLOCKING=1 tells "
                    "which)",
                    operation_queued, cudaGetErrorString(e));
    return e != cudaSuccess;
}

/* Queues kernel(args…) in `s` over `grid` blocks of `block` threads, each block with `shared` bytes of dynamic
 * shared memory. A grid with a zero in it is no launch. A failure is kept (failure.h). */
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, cudaStream_t s, A... args)
{
    if (!grid.x || !grid.y || !grid.z)
        return;
    cudaError_t e = cudaSuccess;
    if (shared > SHARED_UNASKED)
        e = cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                                 cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    std::tuple<P...> values(static_cast<P>(args)...);
    cudaFuncAttributes loaded;
    if (e == cudaSuccess && preparing)
        e = cudaFuncGetAttributes(&loaded, reinterpret_cast<const void *>(kernel));
    else if (e == cudaSuccess)
        e = launch_values(kernel, values, std::index_sequence_for<P...>(), grid, block, shared, s);
    if (e != cudaSuccess && !kernel_failed())
        failure_set(
            "cuda: '%s': launching %u x %u x %u blocks of %u threads with %zu bytes of shared memory: %s",
            operation_queued, grid.x, grid.y, grid.z, block.x * block.y * block.z, shared, device_trouble(e));
}

#endif

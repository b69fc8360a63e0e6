/* SPDX-License-Identifier: MIT */
#include "open.h"

#include <stdio.h>

/* Code is made for these and later devices (the Makefile's architectures). */
constexpr int OLDEST = 80;

/* CUDA writes 12.4 as 12040. */
static int major_of(int version)
{
    return version / 1000;
}
static int minor_of(int version)
{
    return version % 1000 / 10;
}

static int no_driver(void)
{
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (driver == 0)
        return error(STATUS_ENV,
                     "this machine has no NVIDIA driver: use --backend cpu, or a machine with a GPU");
    return error(STATUS_ENV,
                 "the NVIDIA driver is too old: it knows CUDA %d.%d, and this build is made with %d.%d",
                 major_of(driver), minor_of(driver), major_of(runtime), minor_of(runtime));
}

/* What is known of it, when nothing but its context is there. */
static cudaError_t describe(int device, struct backend_device *d)
{
    size_t left = 0, all = 0;
    cudaDeviceProp properties;
    *d = {};
    cudaError_t e = cudaGetDeviceProperties(&properties, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetPCIBusId(d->id, sizeof d->id, device);
    if (e == cudaSuccess)
        e = cudaMemGetInfo(&left, &all);
    if (e != cudaSuccess)
        return e;
    snprintf(d->name, sizeof d->name, "%s", properties.name);
    d->bytes = static_cast<int64_t>(all);
    d->context_bytes = static_cast<int64_t>(all - left);
    return e;
}

/* The device is new enough, and answers. */
static int begin(int device, struct backend_device *taken)
{
    int major = 0, minor = 0;
    cudaError_t e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
    if (e == cudaSuccess && 10 * major + minor < OLDEST)
        return error(STATUS_ENV,
                     "CUDA device %d is too old: it has compute capability %d.%d, and %d.%d is needed", device,
                     major, minor, OLDEST / 10, OLDEST % 10);
    if (e == cudaSuccess)
        e = cudaSetDevice(device);
    if (e == cudaSuccess)
        e = cudaFree(NULL); /* begins the device's context: all that is wrong with it shows */
    if (e == cudaSuccess)
        e = describe(device, taken);
    if (e == cudaSuccess)
        return 0;
    cudaGetLastError();
    return error(STATUS_ENV, "CUDA device %d cannot be used: %s", device, device_trouble(e));
}

int device_take(int device, struct backend_device *taken)
{
    int count = 0;
    cudaError_t e = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (e == cudaErrorInsufficientDriver)
        return no_driver();
    if (e == cudaSuccess && count == 0)
        e = cudaErrorNoDevice;
    if (e != cudaSuccess)
        return error(STATUS_ENV, "CUDA cannot be used: %s", device_trouble(e));
    return begin(device % count, taken);
}

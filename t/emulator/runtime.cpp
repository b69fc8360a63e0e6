/* SPDX-License-Identifier: MIT */
/* The rest of CUDA's runtime: devices, memory, copies. */
#include "emulator.h"

#include <algorithm>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device.h"

/* ---- devices: as many as $MOEKIT_EMULATOR_DEVICES says, of one memory ---- */

static int current_device;

static size_t number_from(const char *variable, size_t otherwise)
{
    const char *given = getenv(variable);
    return given ? strtoull(given, nullptr, 10) : otherwise;
}

/* The numbers of those that $CUDA_VISIBLE_DEVICES leaves: as in CUDA, up to the first that is none. */
static std::vector<int> visible()
{
    int all = static_cast<int>(number_from("MOEKIT_EMULATOR_DEVICES", 1));
    const char *given = getenv("CUDA_VISIBLE_DEVICES");
    std::vector<int> list;
    for (int i = 0; !given && i < all; i++)
        list.push_back(i);
    char *end;
    for (const char *p = given; p && *p; p = *end == ',' ? end + 1 : "") {
        long number = strtol(p, &end, 10);
        if (end == p || number < 0 || number >= all)
            break;
        list.push_back(static_cast<int>(number));
    }
    return list;
}
static int devices()
{
    return static_cast<int>(visible().size());
}

cudaError_t cudaGetDeviceCount(int *count)
{
    BEGIN;
    *count = devices();
    return *count ? cudaSuccess : keep_error(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device)
{
    BEGIN;
    if (device < 0 || device >= devices())
        return keep_error(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    BEGIN;
    *device = current_device;
    return cudaSuccess;
}
cudaError_t cudaSetDeviceFlags(unsigned)
{
    BEGIN;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    BEGIN;
    *version = static_cast<int>(number_from("MOEKIT_EMULATOR_DRIVER", CUDART_VERSION));
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    BEGIN;
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* An A100's shape, but for few multiprocessors, so that persistent kernels have few blocks. */
constexpr int MULTIPROCESSORS = 4, THREADS = 2048, SHARED_EACH = 164 << 10;

static int capability()
{
    return static_cast<int>(number_from("MOEKIT_EMULATOR_CAPABILITY", 80));
}

/* What a context takes of a device's memory. */
constexpr size_t CONTEXT = 3 << 20;

static size_t memory_bytes()
{
    return number_from("MOEKIT_EMULATOR_MEMORY", MEMORY_SPAN / 2);
}
static size_t free_bytes()
{
    size_t used = memory_used() + CONTEXT;
    return std::min(memory_left(), memory_bytes() > used ? memory_bytes() - used : 0);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    BEGIN;
    if (device < 0 || device >= devices())
        return keep_error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    strcpy(p->name, "emulated device");
    p->totalGlobalMem = memory_bytes();
    p->sharedMemPerBlock = SHARED_STATIC_MOST;
    p->sharedMemPerBlockOptin = SHARED_MOST;
    p->sharedMemPerMultiprocessor = SHARED_EACH;
    p->warpSize = 32;
    p->maxThreadsPerBlock = BLOCK_THREADS;
    p->maxThreadsPerMultiProcessor = THREADS;
    p->multiProcessorCount = MULTIPROCESSORS;
    p->major = capability() / 10;
    p->minor = capability() % 10;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int room, int device)
{
    BEGIN;
    if (device < 0 || device >= devices() || room < 13)
        return keep_error(cudaErrorInvalidValue);
    snprintf(id, static_cast<size_t>(room), "0000:%02x:00.0", visible()[static_cast<size_t>(device)]);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device)
{
    BEGIN;
    static const std::map<cudaDeviceAttr, int> values = {
        {cudaDevAttrMultiProcessorCount, MULTIPROCESSORS},
        {cudaDevAttrComputeCapabilityMajor, capability() / 10},
        {cudaDevAttrComputeCapabilityMinor, capability() % 10},
        {cudaDevAttrMaxSharedMemoryPerBlock, static_cast<int>(SHARED_STATIC_MOST)},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(SHARED_MOST)},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, SHARED_EACH},
        {cudaDevAttrMaxThreadsPerBlock, static_cast<int>(BLOCK_THREADS)},
        {cudaDevAttrMaxThreadsPerMultiProcessor, THREADS},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrComputeMode, cudaComputeModeDefault},
    };
    if (device < 0 || device >= devices())
        return keep_error(cudaErrorInvalidDevice);
    auto found = values.find(what);
    if (found == values.end())
        return keep_error(cudaErrorInvalidValue);
    *value = found->second;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *, cudaFuncAttribute what, int value)
{
    BEGIN;
    bool too_much =
        what == cudaFuncAttributeMaxDynamicSharedMemorySize && static_cast<size_t>(value) > SHARED_MOST;
    return too_much ? keep_error(cudaErrorInvalidValue) : cudaSuccess;
}
/* By threads and dynamic shared memory; registers are nothing that an emulator has. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads, size_t shared)
{
    BEGIN;
    int by_shared = shared ? static_cast<int>(SHARED_EACH / (shared + 1024)) : 32;
    *blocks = std::min(std::min(THREADS / threads, 32), by_shared);
    return cudaSuccess;
}

/* ---- errors ---- */

const char *cudaGetErrorName(cudaError_t e)
{
    static const std::map<cudaError_t, const char *> names = {
        {cudaSuccess, "cudaSuccess"},
        {cudaErrorInvalidValue, "cudaErrorInvalidValue"},
        {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation"},
        {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration"},
        {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver"},
        {cudaErrorDevicesUnavailable, "cudaErrorDevicesUnavailable"},
        {cudaErrorNoDevice, "cudaErrorNoDevice"},
        {cudaErrorInvalidDevice, "cudaErrorInvalidDevice"},
        {cudaErrorECCUncorrectable, "cudaErrorECCUncorrectable"},
        {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle"},
        {cudaErrorNotReady, "cudaErrorNotReady"},
        {cudaErrorIllegalAddress, "cudaErrorIllegalAddress"},
        {cudaErrorLaunchFailure, "cudaErrorLaunchFailure"},
        {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported"},
        {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated"},
    };
    auto found = names.find(e);
    return found == names.end() ? "cudaErrorUnknown" : found->second;
}
const char *cudaGetErrorString(cudaError_t e)
{
    return cudaGetErrorName(e);
}

/* ---- memory ---- */

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    BEGIN;
    NOT_IN_CAPTURE;
    stream_may_finish();
    *p = bytes && bytes <= free_bytes() ? memory_alloc(bytes) : nullptr;
    return *p || !bytes ? cudaSuccess : keep_error(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *p)
{
    BEGIN;
    NOT_IN_CAPTURE;
    cudaDeviceSynchronize();
    return !p || memory_free(p) ? cudaSuccess : keep_error(cudaErrorInvalidValue);
}
cudaError_t cudaMemGetInfo(size_t *left, size_t *all)
{
    BEGIN;
    memory_begin();
    *left = free_bytes();
    *all = memory_bytes();
    return cudaSuccess;
}

static std::map<const char *, size_t> pinned; /* page-locked memory of the host */

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    BEGIN;
    NOT_IN_CAPTURE;
    stream_may_finish();
    *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*p)
        return keep_error(cudaErrorMemoryAllocation);
    pinned[static_cast<char *>(*p)] = bytes;
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void *p)
{
    BEGIN;
    NOT_IN_CAPTURE;
    cudaDeviceSynchronize();
    if (p && !pinned.erase(static_cast<char *>(p)))
        return keep_error(cudaErrorInvalidValue);
    free(p);
    return cudaSuccess;
}
bool memory_pinned(const void *p)
{
    auto after = pinned.upper_bound(static_cast<const char *>(p));
    return after != pinned.begin() &&
           static_cast<const char *>(p) < std::prev(after)->first + std::prev(after)->second;
}

/* ---- copies ---- */

/* Whether the directions that a kind means are those of the pointers. */
static bool fits(const void *to, const void *from, cudaMemcpyKind kind)
{
    bool device_to = in_memory(to), device_from = in_memory(from);
    switch (kind) {
    case cudaMemcpyHostToHost:
        return !device_to && !device_from;
    case cudaMemcpyHostToDevice:
        return device_to && !device_from;
    case cudaMemcpyDeviceToHost:
        return !device_to && device_from;
    case cudaMemcpyDeviceToDevice:
        return device_to && device_from;
    default:
        return true;
    }
}

static void copy_now(void *to, const void *from, size_t bytes)
{
    if (in_memory(from))
        shadow_access(from, bytes, ACCESS_READ, nullptr);
    if (in_memory(to))
        shadow_access(to, bytes, ACCESS_WRITE, nullptr);
    memmove(to, from, bytes);
}

/* Memory of the host that is not page-locked is staged: read before the call returns, or written before it
 * does. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s)
{
    BEGIN;
    memory_begin();
    if (!fits(to, from, kind))
        return keep_error(cudaErrorInvalidValue);
    if (!bytes)
        return cudaSuccess;
    bool staged_to = !in_memory(to) && !memory_pinned(to),
         staged_from = !in_memory(from) && !memory_pinned(from);
    if (capture_is(s) && (staged_to || staged_from)) {
        capture_forbids();
        return keep_error(cudaErrorStreamCaptureUnsupported);
    }
    operation op;
    op.name = "cudaMemcpyAsync()";
    op.body = [=] { copy_now(to, from, bytes); };
    if (staged_from) {
        const char *bytes_of = static_cast<const char *>(from);
        auto staged = std::make_shared<std::vector<char>>(bytes_of, bytes_of + bytes);
        op.body = [=] { copy_now(to, staged->data(), bytes); };
    }
    std::shared_ptr<operation> queued = stream_queue(s, std::move(op));
    if (staged_to)
        stream_finish(queued);
    return keep_error(sticky_error);
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    cudaError_t e = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return e == cudaSuccess ? cudaStreamSynchronize(nullptr) : e;
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s)
{
    BEGIN;
    memory_begin();
    if (!in_memory(p) && bytes)
        return keep_error(cudaErrorInvalidValue);
    if (!bytes)
        return cudaSuccess;
    operation op;
    op.name = "cudaMemsetAsync()";
    op.body = [=] {
        shadow_access(p, bytes, ACCESS_WRITE, nullptr);
        memset(p, value, bytes);
    };
    stream_queue(s, std::move(op));
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    return cudaMemsetAsync(p, value, bytes, nullptr);
}

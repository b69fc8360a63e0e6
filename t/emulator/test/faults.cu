/* SPDX-License-Identifier: MIT */
/* Kernels with one thing wrong each. The checker must see it with every seed, whatever the values are. */
#include <stdio.h>
#include <string.h>

#include "test.h"

/* ---- within a block; `x` has a float a thread ---- */

__global__ void unread_barrier(float *x)
{
    SHARED(float, a, 64);
    a[threadIdx.x] = x[threadIdx.x]; /* no barrier: another warp's value is read */
    x[threadIdx.x] = a[63 - threadIdx.x];
}
__global__ void overwrite_barrier(float *x)
{
    SHARED(float, a, 64);
    for (int i = 0; i < 2; i++) {
        a[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = a[63 - threadIdx.x]; /* no barrier before the next turn */
    }
}
__global__ void within_warp(float *x)
{
    SHARED(float, a, 32);
    a[threadIdx.x] = x[threadIdx.x]; /* no __syncwarp() */
    x[threadIdx.x] = a[31 - threadIdx.x];
}
__global__ void shuffled_warp(float *x)
{
    SHARED(float, a, 32);
    a[threadIdx.x] = x[threadIdx.x];
    float v = __shfl_xor_sync(0xffffffff, x[threadIdx.x], 1); /* orders no memory */
    x[threadIdx.x] = a[31 - threadIdx.x] + v;
}
__global__ void half_synchronised(float *x)
{
    SHARED(float, a, 32);
    a[threadIdx.x] = x[threadIdx.x];
    __syncwarp(threadIdx.x < 16 ? 0xffffu : 0xffff0000u);
    x[threadIdx.x] = a[31 - threadIdx.x]; /* of the other half */
}
__global__ void between_blocks(float *x)
{
    x[threadIdx.x] = static_cast<float>(blockIdx.x);
}
__global__ void unfenced_blocks(float *x)
{
    unsigned *come = reinterpret_cast<unsigned *>(x + 64);
    if (threadIdx.x)
        return;
    x[blockIdx.x] = 1; /* no __threadfence() before the atomic */
    if (atomicAdd(come, 1u) + 1 == gridDim.x)
        x[63] = x[0] + x[1];
}
__global__ void atomic_and_plain(float *x)
{
    unsigned *n = reinterpret_cast<unsigned *>(x);
    atomicAdd(n, 1u);
    if (threadIdx.x == 0)
        x[1] = static_cast<float>(*n); /* others may not have come yet */
}

/* ---- barriers and lanes ---- */

__global__ void barrier_after_exit(float *x)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
__global__ void divergent_barriers(float *x)
{
    if (threadIdx.x < 32)
        __syncthreads();
    else
        x[threadIdx.x] = 2;
    if (threadIdx.x >= 32)
        __syncthreads();
    x[threadIdx.x] = 1;
}
__global__ void absent_lane(float *x)
{
    if (threadIdx.x < 20)
        x[threadIdx.x] = __shfl_down_sync(0xffffffff, x[threadIdx.x], 16);
}
__global__ void absent_at_barrier(float *x)
{
    if (threadIdx.x == 7)
        __syncthreads();
    else
        x[threadIdx.x] += static_cast<float>(__ballot_sync(0xffffffff, 1));
    if (threadIdx.x != 7)
        __syncthreads();
}
__global__ void not_in_mask(float *x)
{
    x[threadIdx.x] = __shfl_xor_sync(0xffff, x[threadIdx.x], 1);
}
__global__ void partial_mma(float *x)
{
    float d[4] = {};
    uint32_t a[4] = {}, b[2] = {};
    if (threadIdx.x == 3)
        return;
    mma_bf16(d, a, b);
    x[threadIdx.x] = d[0];
}

/* ---- addresses ---- */

__global__ void past_row(const float *x, float *y, int n)
{
    for (unsigned i = threadIdx.x; i < static_cast<unsigned>(n) + 1; i += blockDim.x)
        y[threadIdx.x] = x[i];
}
__global__ void past_shared(float *x)
{
    SHARED(float, a, 64);
    float *b = a;
    b[threadIdx.x + 1] = x[threadIdx.x];
}
__global__ void misaligned(const float *x, float *y)
{
    const float4 v = *reinterpret_cast<const float4 *>(x + 1 + 4 * threadIdx.x % 16);
    y[threadIdx.x] = v.x + v.w;
}
__global__ void host_pointer(const float *x, float *y)
{
    y[threadIdx.x] = x[threadIdx.x];
}
__global__ void overflow(float *x, int rows, int width)
{
    int at = rows * width; /* beyond 2^31 */
    x[threadIdx.x] = static_cast<float>(at);
}

/* ---- cp.async ---- */

__global__ void unwaited_copy(const float *x, float *y)
{
    SHARED(float, a, 128);
    cp_async_16(a + 4 * threadIdx.x, x + 4 * threadIdx.x, 16);
    cp_async_commit();
    cp_async_wait<1>(); /* leaves the one that is wanted */
    __syncthreads();
    y[threadIdx.x] = a[127 - threadIdx.x];
}
__global__ void unsynchronised_copy(const float *x, float *y)
{
    SHARED(float, a, 128);
    cp_async_16(a + 4 * threadIdx.x, x + 4 * threadIdx.x, 16);
    cp_async_commit();
    cp_async_wait<0>(); /* for one's own copies only */
    y[threadIdx.x] = a[127 - threadIdx.x];
}
__global__ void overwriting_copy(const float *x, float *y)
{
    SHARED(float, a, 128);
    for (int i = 0; i < 2; i++) {
        cp_async_16(a + 4 * threadIdx.x, x + 4 * threadIdx.x, 16);
        cp_async_commit();
        cp_async_wait<0>();
        __syncthreads();
        y[threadIdx.x] = a[127 - threadIdx.x]; /* no barrier before the next copy */
    }
}

/* A wrong fragment index gives wrong values: d as if lanes held rows t and columns g. */
__global__ void wrong_fragment(float *x)
{
    uint32_t a[4] = {}, b[2] = {};
    float d[4] = {};
    const unsigned lane = threadIdx.x, g = lane / 4, t = lane % 4;
    a[0] = g == 1 && t == 0 ? 0x3f80 : 0; /* A[1][0] = 1 */
    b[0] = g == 2 && t == 0 ? 0x3f80 : 0; /* B[0][2] = 1 */
    mma_bf16(d, a, b);
    for (unsigned i = 0; i < 4; i++)
        x[(2 * t + i % 2) * 16 + g + 8 * (i / 2)] = d[i]; /* should be x[row][column]: D[1][2] = 1 */
}

/* ---- the host ---- */

static void missing_event(float *x, cudaStream_t s)
{
    cudaStream_t other;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaMemsetAsync(x, 0, 256, s);
    launch(between_blocks, 1, 64, 0, other, x); /* no event between */
    cudaDeviceSynchronize();
}
static void missing_wait_of_reader(float *x, cudaStream_t s)
{
    cudaStream_t other, third;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&third, cudaStreamNonBlocking);
    cudaEvent_t read;
    cudaEventCreate(&read);
    float *a = device<float>(64), *b = device<float>(64);
    cudaStreamSynchronize(s);
    cudaMemcpyAsync(a, x, 256, cudaMemcpyDeviceToDevice, other);
    cudaMemcpyAsync(b, x, 256, cudaMemcpyDeviceToDevice, third);
    cudaEventRecord(read, third);
    cudaStreamWaitEvent(s, read, 0); /* of two readers one is waited for */
    cudaMemsetAsync(x, 0, 256, s);
    cudaDeviceSynchronize();
}
static void host_access(float *x, cudaStream_t s)
{
    cudaStreamSynchronize(s);
    volatile float *p = x;
    p[3] = 1;
}

static void freed(float *x, cudaStream_t s)
{
    cudaFree(x);
    launch(between_blocks, 1, 64, 0, s, x);
}
/* Two products at once with one workspace. */
static void shared_workspace(float *x, cudaStream_t s)
{
    cudaStream_t other;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    char *workspace = device<char>(1024);
    float *y = device<float>(64), *z = device<float>(64);
    cudaStreamSynchronize(s);
    multiply_8(x, y, workspace, s);
    multiply_8(x, z, workspace, other);
    cudaDeviceSynchronize();
}

/* ---- by name ---- */

static int fragment_noticed(float *x, cudaStream_t s)
{
    launch(wrong_fragment, 1, 32, 0, s, x);
    std::vector<float> d = from_device(x, 128, s);
    if (d[1 * 8 + 2] == 1)
        return 0;
    fprintf(stderr, "wrong value: D[1][2] is %g\n", static_cast<double>(d[1 * 8 + 2]));
    return 86;
}

struct in_place {
    const char *name;
    void (*kernel)(float *);
    unsigned blocks, threads;
};
static const in_place kernels[] = {
    {"unread_barrier", unread_barrier, 1, 64},
    {"overwrite_barrier", overwrite_barrier, 1, 64},
    {"within_warp", within_warp, 1, 32},
    {"shuffled_warp", shuffled_warp, 1, 32},
    {"half_synchronised", half_synchronised, 1, 32},
    {"between_blocks", between_blocks, 2, 64},
    {"unfenced_blocks", unfenced_blocks, 2, 32},
    {"atomic_and_plain", atomic_and_plain, 1, 64},
    {"barrier_after_exit", barrier_after_exit, 1, 64},
    {"divergent_barriers", divergent_barriers, 1, 64},
    {"absent_lane", absent_lane, 1, 32},
    {"absent_at_barrier", absent_at_barrier, 1, 32},
    {"not_in_mask", not_in_mask, 1, 32},
    {"partial_mma", partial_mma, 1, 32},
    {"past_shared", past_shared, 1, 64},
};

struct from_to {
    const char *name;
    void (*kernel)(const float *, float *);
};
static const from_to copies[] = {
    {"misaligned", misaligned},
    {"unwaited_copy", unwaited_copy},
    {"unsynchronised_copy", unsynchronised_copy},
    {"overwriting_copy", overwriting_copy},
};

static const struct {
    const char *name;
    void (*host)(float *, cudaStream_t);
} hosts[] = {{"missing_event", missing_event},
             {"missing_wait_of_reader", missing_wait_of_reader},
             {"freed", freed},
             {"shared_workspace", shared_workspace},
             {"graph_not_awaited", graph_not_awaited},
             {"host_access", host_access}};

int fault(const char *name, cudaStream_t s)
{
    float *x = to_device(std::vector<float>(128), s), *y = device<float>(128);
    for (const in_place &k : kernels)
        if (!strcmp(name, k.name))
            launch(k.kernel, k.blocks, k.threads, 0, s, x);
    for (const from_to &k : copies)
        if (!strcmp(name, k.name))
            launch(k.kernel, 1, 32, 0, s, x, y);
    for (const auto &h : hosts)
        if (!strcmp(name, h.name))
            h.host(x, s);
    if (!strcmp(name, "past_row"))
        launch(past_row, 1, 32, 0, s, x, y, 128);
    if (!strcmp(name, "host_pointer"))
        launch(host_pointer, 1, 32, 0, s, new float[128](), y);
    if (!strcmp(name, "overflow"))
        launch(overflow, 1, 32, 0, s, x, 1 << 20, 1 << 12);
    if (!strcmp(name, "wrong_fragment"))
        return fragment_noticed(x, s);
    cudaStreamSynchronize(s);
    return 0;
}

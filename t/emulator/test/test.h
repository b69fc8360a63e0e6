/* SPDX-License-Identifier: MIT */
/* What the emulator's own test is made of: kernels that are right, and kernels with a fault. */
#ifndef TEST_TEST_H
#define TEST_TEST_H

#include <vector>

#include "cuda/ptx.h"

int small_number();

/* True if the result is exactly what the host calculates. */
bool good_row_sums(cudaStream_t s);
bool good_product(cudaStream_t s);
bool good_sort(cudaStream_t s);
bool good_last_block(cudaStream_t s);
bool good_streams(cudaStream_t s);
bool good_library(cudaStream_t s); /* cuBLASLt's products */
bool good_graphs(cudaStream_t s);
void graph_not_awaited(float *x, cudaStream_t s); /* which is wrong */

/* y = x · x by cuBLASLt, 8 x 8, with a workspace of 1024 bytes. */
void multiply_8(const float *x, float *y, void *workspace, cudaStream_t s);

/* Does what is wrong, by name; 0 if there is no such fault, or if nobody noticed it. */
int fault(const char *name, cudaStream_t s);

/* What three ranks do with NCCL, by name: the exit status, or -1 if there is no such case. The process has not
 * touched the device before. */
int nccl_case(const char *name);

/* Device memory, never freed. */
template <class T> T *device(size_t n)
{
    void *p = nullptr;
    return cudaMalloc(&p, n * sizeof(T)) == cudaSuccess ? static_cast<T *>(p) : nullptr;
}
template <class T> T *to_device(const std::vector<T> &x, cudaStream_t s)
{
    T *p = device<T>(x.size());
    cudaMemcpyAsync(p, x.data(), x.size() * sizeof(T), cudaMemcpyHostToDevice, s);
    return p;
}
template <class T> std::vector<T> from_device(const T *p, size_t n, cudaStream_t s)
{
    std::vector<T> x(n);
    cudaMemcpyAsync(x.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost, s);
    cudaStreamSynchronize(s);
    return x;
}

#endif

/* SPDX-License-Identifier: MIT */
/* What a kernel may use, for g++: included by force before each CUDA source of an emulated build, where nvcc
 * has built-in names. The host's functions (cudaMalloc and so on) have the names and types of CUDA's own
 * headers. */
#ifndef EMULATOR_DEVICE_H
#define EMULATOR_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>

/* ---- what launch(), SHARED and ptx.h call (kernels/cuda/device.h, kernels/cuda/ptx.h) ---- */

/* Queues run(call), once a thread, and then drop(call). `kernel` is the kernel's address, for reports. What
 * reads the arguments for a thread is no part of the kernel: it is not watched. */
cudaError_t emulated_launch(const void *kernel, dim3 grid, dim3 block, size_t shared, cudaStream_t s,
                            void (*run)(const void *), void (*drop)(const void *), const void *call);
#define EMULATED_UNWATCHED __attribute__((no_sanitize("thread", "undefined")))
/* The block's array of this site, the same for each of its threads; and the launch's dynamic shared memory. */
void *emulated_shared(const void *site, const char *name, size_t bytes);
void *emulated_shared_dynamic();

/* Whether $MOEKIT_FAULT is this name (fault()). */
bool emulated_fault(const char *name);

void emulated_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2]);
void emulated_ldmatrix(uint32_t *r, const void *row, int matrices, bool trans);
void emulated_cp_async(void *shared, const void *global, int bytes);
void emulated_cp_async_commit();
void emulated_cp_async_wait(int groups);

/* ---- where a thread is ---- */

/* Constant while a function of the thread runs, which is what the attribute asks for. */
__attribute__((const)) uint3 emulated_thread_index();
__attribute__((const)) uint3 emulated_block_index();
__attribute__((const)) dim3 emulated_block_size();
__attribute__((const)) dim3 emulated_grid_size();
#define threadIdx (emulated_thread_index())
#define blockIdx  (emulated_block_index())
#define blockDim  (emulated_block_size())
#define gridDim   (emulated_grid_size())
constexpr int warpSize = 32;
#ifndef __launch_bounds__
#define __launch_bounds__(...)
#endif

/* ---- barriers ---- */

/* The line tells two barriers apart: compilers copy code, and with it return addresses. */
void emulated_syncthreads(const char *file, int line);
#define __syncthreads() emulated_syncthreads(__FILE__, __LINE__)
void __syncwarp(unsigned mask = 0xffffffffu);
void __threadfence();
void __threadfence_block();
void __threadfence_system();

/* ---- warps ---- */

enum emulated_shuffle_kind { SHUFFLE_INDEX, SHUFFLE_UP, SHUFFLE_DOWN, SHUFFLE_XOR };
uint64_t emulated_shuffle(emulated_shuffle_kind kind, unsigned mask, uint64_t bits, int by, int width);
template <class T> T emulated_shuffle_of(emulated_shuffle_kind kind, unsigned mask, T v, int by, int width)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "a shuffle moves up to 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    bits = emulated_shuffle(kind, mask, bits, by, width);
    memcpy(&v, &bits, sizeof v);
    return v;
}
template <class T> T __shfl_sync(unsigned mask, T v, int lane, int width = 32)
{
    return emulated_shuffle_of(SHUFFLE_INDEX, mask, v, lane, width);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    return emulated_shuffle_of(SHUFFLE_UP, mask, v, static_cast<int>(by), width);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned by, int width = 32)
{
    return emulated_shuffle_of(SHUFFLE_DOWN, mask, v, static_cast<int>(by), width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, int by, int width = 32)
{
    return emulated_shuffle_of(SHUFFLE_XOR, mask, v, by, width);
}
unsigned __ballot_sync(unsigned mask, int yes);
static inline int __any_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, yes) != 0;
}
static inline int __all_sync(unsigned mask, int yes)
{
    return __ballot_sync(mask, !yes) == 0;
}

/* ---- atomics: of integers ---- */

int atomicAdd(int *p, int v);
unsigned atomicAdd(unsigned *p, unsigned v);
unsigned long long atomicAdd(unsigned long long *p, unsigned long long v);
int atomicMax(int *p, int v);

/* ---- arithmetic ---- */

template <class T> T __ldg(const T *p)
{
    return *p;
}
static inline int __popc(unsigned v)
{
    return __builtin_popcount(v);
}
static inline int __popcll(unsigned long long v)
{
    return __builtin_popcountll(v);
}
static inline int __ffs(int v)
{
    return __builtin_ffs(v);
}
static inline int __clz(int v)
{
    return v ? __builtin_clz(static_cast<unsigned>(v)) : 32;
}
static inline unsigned __umulhi(unsigned a, unsigned b)
{
    return static_cast<unsigned>(static_cast<uint64_t>(a) * b >> 32);
}
template <class To, class From> To emulated_bits(From v)
{
    static_assert(sizeof(To) == sizeof(From), "the bits of one are those of the other");
    To to;
    memcpy(&to, &v, sizeof to);
    return to;
}
static inline float __uint_as_float(unsigned v)
{
    return emulated_bits<float>(v);
}
static inline float __int_as_float(int v)
{
    return emulated_bits<float>(v);
}
static inline unsigned __float_as_uint(float v)
{
    return emulated_bits<unsigned>(v);
}
static inline int __float_as_int(float v)
{
    return emulated_bits<int>(v);
}
static inline float __fadd_rn(float a, float b)
{
    return a + b;
}
static inline float __fsub_rn(float a, float b)
{
    return a - b;
}
static inline float __fmul_rn(float a, float b)
{
    return a * b;
}
static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}
static inline float __fsqrt_rn(float v)
{
    return sqrtf(v);
}
static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}
static inline double __dadd_rn(double a, double b)
{
    return a + b;
}
static inline double __dmul_rn(double a, double b)
{
    return a * b;
}
/* The C library has such names of its own. */
#define __expf(v) expf(v)
#define __logf(v) logf(v)
static inline float __fdividef(float a, float b)
{
    return a / b;
}
static inline float rsqrtf(float v)
{
    return 1 / sqrtf(v);
}
template <class A, class B> constexpr typename std::common_type<A, B>::type min(A a, B b)
{
    return b < a ? b : a;
}
template <class A, class B> constexpr typename std::common_type<A, B>::type max(A a, B b)
{
    return a < b ? b : a;
}

#endif

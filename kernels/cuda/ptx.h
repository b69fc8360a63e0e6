/* SPDX-License-Identifier: MIT */
/* Instructions that C++ has no word for, a function each: PTX under nvcc, t/emulator's own loops otherwise.
 * The words in quotes are titles of sections of NVIDIA's PTX ISA. All work on every architecture from sm_80 on.
 *
 * In the layouts, lane = thread % 32, g = lane / 4 (0 to 7), t = lane % 4. A register holds two bf16, the one
 * with the lower index in its low half. All 32 lanes must call mma_bf16 and ldmatrix_*. */
#ifndef KERNELS_CUDA_PTX_H
#define KERNELS_CUDA_PTX_H

#include "device.h"

/* d[16,8] += a[16,16] · b[16,8], bf16 in, f32 out ("Matrix Fragments for mma.m16n8k16 with floating point
 * type").
 *   a[r]  half i is  A[g + 8·(r % 2)][2t + 8·(r / 2) + i]     (a is row-major: .row)
 *   b[r]  half i is  B[2t + 8·r + i][g]                       (b is column-major: .col)
 *   d[i]         is  D[g + 8·(i / 2)][2t + i % 2] */
__device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#ifdef MOEKIT_EMULATED
    emulated_mma_bf16(d, a, b);
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#ifndef MOEKIT_EMULATED
/* The address of shared memory as PTX wants it. */
__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

/* v, of which the compiler no longer knows what it is. Addresses computed from it in a loop are computed again
 * each time, by an instruction or two, instead of lying in registers from one iteration to the next. */
__device__ __forceinline__ int opaque(int v)
{
#ifndef MOEKIT_EMULATED
    asm volatile("" : "+r"(v));
#endif
    return v;
}

/* Matrices of 8 x 8 bf16 from shared memory ("Warp-level matrix load instruction: ldmatrix"). Lane l gives the
 * address of row l % 8 of matrix l / 8: 8 elements, 16 bytes, aligned to 16. x2 takes the rows of lanes 0 to
 * 15; the other lanes' addresses are not read. With M the m-th matrix,
 *   plain     r[m]  half i is  M[g][2t + i]
 *   trans     r[m]  half i is  M[2t + i][g]
 * so that four plain matrices (rows 0-7, rows 8-15, then the same of columns 8-15) are mma_bf16's a, and two
 * plain ones of B stored [n][k] (k 0-7, k 8-15), or two trans ones of B stored [k][n], are its b. */
__device__ __forceinline__ void ldmatrix_x4(uint32_t r[4], const void *row)
{
#ifdef MOEKIT_EMULATED
    emulated_ldmatrix(r, row, 4, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t r[4], const void *row)
{
#ifdef MOEKIT_EMULATED
    emulated_ldmatrix(r, row, 4, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t r[2], const void *row)
{
#ifdef MOEKIT_EMULATED
    emulated_ldmatrix(r, row, 2, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t r[2], const void *row)
{
#ifdef MOEKIT_EMULATED
    emulated_ldmatrix(r, row, 2, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

/* Begins a copy of `bytes` (0 to 16) from global to shared memory, both aligned to 16 bytes, and zeros up to 16
 * ("Data Movement and Conversion Instructions: cp.async", .cg with a src-size). With 0 bytes `global` is not
 * read. A thread's copies since its last commit are a group; wait<N> returns when all but the thread's last N
 * groups have come. What other threads copied is there after their wait and then a __syncthreads(). */
__device__ __forceinline__ void cp_async_16(void *shared, const void *global, int bytes)
{
#ifdef MOEKIT_EMULATED
    emulated_cp_async(shared, global, bytes);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
#endif
}
__device__ __forceinline__ void cp_async_commit()
{
#ifdef MOEKIT_EMULATED
    emulated_cp_async_commit();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int N> __device__ __forceinline__ void cp_async_wait()
{
#ifdef MOEKIT_EMULATED
    emulated_cp_async_wait(N);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
#endif
}

#endif

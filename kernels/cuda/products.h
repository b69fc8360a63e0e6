/* SPDX-License-Identifier: MIT */
/* Which of cuBLASLt's algorithms computes which product. The library's heuristic is asked before a run's
 * first step (kernels/rehearsal.c), or else at a product's first use, and what it says goes by the product,
 * the device and the library, never by time; what was chosen is kept for the process, and as text beside a
 * checkpoint (backend.h), for a later process with the same device and library:
 *
 *   moekit-algorithms 1
 *   for NVIDIA H100 80GB HBM3, sm_90, 132 multiprocessors, cublasLt 130100
 *   4096 1024 2048 2048 1024 1024 0 0 1 1 0 256 256 256 00010203…      struct product, the algorithm's bytes
 *   … */
#ifndef KERNELS_CUDA_PRODUCTS_H
#define KERNELS_CUDA_PRODUCTS_H

#include <cublasLt.h>

#include "cuda.h"

/* What a choice of algorithm depends on. Compared as bytes. */
struct product {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t ta, tb, in, out, beta;
    int32_t aligned[3]; /* bytes: of a, b, c */
};

/* Opens the library; -1 with error() set. */
int products_open(void);
cublasLtHandle_t products_library(void);

/* The algorithm of the product, from before; false if there is none. */
bool algorithm_known(const struct product *key, cublasLtMatmulAlgo_t *algorithm);
/* From now on it is this one. */
void algorithm_keep(const struct product *key, const cublasLtMatmulAlgo_t *algorithm);

/* What the backend's table has of this. */
char *algorithms_text(void);
int algorithms_use(const char *text);

#endif

/* SPDX-License-Identifier: MIT */
/* Products by cuBLASLt. It thinks in columns: a row-major matrix [rows, columns] with rows ld apart is its
 * column-major matrix of `columns` rows and `rows` columns, so C = op(A)·op(B) is asked for as Cᵀ =
 * op(B)ᵀ·op(A)ᵀ, and what is stored is never moved.
 *
 * Arithmetic is f32: of f32 strictly so (no TF32, and nothing that is put together of smaller types); partial
 * sums of a split K meet in the workspace, in order, and not in C. Which algorithm runs: products.h. */
#include <stdlib.h>
#include <string.h>

#include "products.h"
#include "rows.h"

extern "C" {
#include "base/notice.h"
}

/* Everything the library wants to know of a product, made once. */
struct known_product {
    struct known_product *next;
    struct product key;
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algorithm;
    bool done; /* before: its kernel is loaded */
};

static struct known_product *known;

/* Bytes that p is a multiple of, up to what the library asks for at most. */
static int32_t alignment(const void *p)
{
    int32_t bytes = 1;
    while (bytes < 256 && reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(2 * bytes) == 0)
        bytes *= 2;
    return bytes;
}

static struct product product_of(const struct matmul *p)
{
    struct product k;
    memset(&k, 0, sizeof k); /* compared as bytes */
    k.m = p->m, k.n = p->n, k.k = p->k, k.lda = p->lda, k.ldb = p->ldb, k.ldc = p->ldc;
    k.ta = p->ta, k.tb = p->tb, k.in = p->in, k.out = p->out, k.beta = p->beta != 0;
    k.aligned[0] = alignment(p->a), k.aligned[1] = alignment(p->b), k.aligned[2] = alignment(p->c);
    return k;
}

static cudaDataType_t data_type(int32_t type)
{
    return type == F32 ? CUDA_R_32F : CUDA_R_16BF;
}

static cublasStatus_t describe(struct known_product *p)
{
    const struct product *k = &p->key;
    const cublasOperation_t plain = CUBLAS_OP_N, turned = CUBLAS_OP_T;
    cublasStatus_t e = cublasLtMatmulDescCreate(
        &p->how, k->in == F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (e == CUBLAS_STATUS_SUCCESS) /* the library's first matrix is our second */
        e = cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_TRANSA, k->tb ? &turned : &plain,
                                           sizeof plain);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulDescSetAttribute(p->how, CUBLASLT_MATMUL_DESC_TRANSB, k->ta ? &turned : &plain,
                                           sizeof plain);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatrixLayoutCreate(&p->a, data_type(k->in), static_cast<uint64_t>(k->ta ? k->m : k->k),
                                       static_cast<uint64_t>(k->ta ? k->k : k->m), k->lda);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatrixLayoutCreate(&p->b, data_type(k->in), static_cast<uint64_t>(k->tb ? k->k : k->n),
                                       static_cast<uint64_t>(k->tb ? k->n : k->k), k->ldb);
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatrixLayoutCreate(&p->c, data_type(k->out), static_cast<uint64_t>(k->n),
                                       static_cast<uint64_t>(k->m), k->ldc);
    return e;
}

/* The algorithm from before, if the library can use it. */
static bool choose_known(struct known_product *p)
{
    cublasLtMatmulHeuristicResult_t result;
    if (!algorithm_known(&p->key, &p->algorithm))
        return false;
    if (cublasLtMatmulAlgoCheck(products_library(), p->how, p->b, p->a, p->c, p->c, &p->algorithm, &result) ==
            CUBLAS_STATUS_SUCCESS &&
        result.workspaceSize <= SCRATCH_BYTES)
        return true;
    notice("the checkpoint's algorithm of a product of %lld x %lld x %lld cannot be used: it is chosen anew",
           static_cast<long long>(p->key.m), static_cast<long long>(p->key.n),
           static_cast<long long>(p->key.k));
    return false;
}

/* Asks for the algorithm. */
static cublasStatus_t choose(struct known_product *p)
{
    const uint64_t workspace = SCRATCH_BYTES;
    const uint32_t sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE; /* in f32, outside of C */
    uint32_t aligned[3];
    for (int i = 0; i < 3; i++)
        aligned[i] = static_cast<uint32_t>(p->key.aligned[i]);
    cublasLtMatmulPreference_t wish;
    cublasStatus_t e = cublasLtMatmulPreferenceCreate(&wish);
    if (e != CUBLAS_STATUS_SUCCESS)
        return e;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        const void *value;
        size_t bytes;
    } wishes[] = {{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace, sizeof workspace},
                  {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &sums, sizeof sums},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &aligned[1], sizeof *aligned},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned[0], sizeof *aligned},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &aligned[2], sizeof *aligned},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &aligned[2], sizeof *aligned}};
    for (size_t i = 0; i < sizeof wishes / sizeof *wishes && e == CUBLAS_STATUS_SUCCESS; i++)
        e = cublasLtMatmulPreferenceSetAttribute(wish, wishes[i].what, wishes[i].value, wishes[i].bytes);
    cublasLtMatmulHeuristicResult_t best = {};
    int found = 0;
    if (e == CUBLAS_STATUS_SUCCESS)
        e = cublasLtMatmulAlgoGetHeuristic(products_library(), p->how, p->b, p->a, p->c, p->c, wish, 1, &best,
                                           &found);
    cublasLtMatmulPreferenceDestroy(wish);
    if (e == CUBLAS_STATUS_SUCCESS && (found < 1 || best.state != CUBLAS_STATUS_SUCCESS))
        e = CUBLAS_STATUS_NOT_SUPPORTED;
    p->algorithm = best.algo;
    if (e == CUBLAS_STATUS_SUCCESS)
        algorithm_keep(&p->key, &p->algorithm);
    return e;
}

/* The product's description, made when it is first asked for; NULL with a failure kept. */
static struct known_product *find(const struct product *key)
{
    for (struct known_product *p = known; p; p = p->next)
        if (memcmp(&p->key, key, sizeof *key) == 0)
            return p;
    struct known_product *p = static_cast<struct known_product *>(xcalloc(1, sizeof *p));
    p->key = *key;
    cublasStatus_t e = describe(p);
    if (e == CUBLAS_STATUS_SUCCESS && !choose_known(p))
        e = choose(p);
    if (e == CUBLAS_STATUS_SUCCESS) {
        p->next = known;
        return known = p;
    }
    free(p);
    failure_set("cuda: cublasLt has no product of %lld x %lld x %lld: %s", static_cast<long long>(key->m),
                static_cast<long long>(key->n), static_cast<long long>(key->k), cublasLtGetStatusString(e));
    return NULL;
}

/* Tiles of the rows of C. */
template <class T> __global__ void zero_tile(struct matmul p, unsigned across)
{
    struct place at = place_in<1>(across);
    if (at.row < p.m && at.column < p.n)
        put(static_cast<T *>(p.c) + at.row * p.ldc + at.column, 0);
}

void cuda_matmul(struct stream *s, const struct matmul *p)
{
    if (p->m == 0 || p->n == 0)
        return;
    if (p->k == 0) {
        if (p->beta == 0)
            run_tiles<1>(s, p->out == F32 ? zero_tile<float> : zero_tile<bf16>, p->m, p->n, p);
        return;
    }
    struct product key = product_of(p);
    struct known_product *how = find(&key);
    void *workspace = cuda_scratch(s, SCRATCH_BYTES);
    if (!how || !workspace || (preparing && how->done))
        return;
    how->done = true;
    const float one = 1, beta = p->beta;
    cublasStatus_t e =
        cublasLtMatmul(products_library(), how->how, &one, p->b, how->b, p->a, how->a, &beta, p->c, how->c,
                       p->c, how->c, &how->algorithm, workspace, SCRATCH_BYTES, s->cuda);
    if (e != CUBLAS_STATUS_SUCCESS && !kernel_failed())
        failure_set("cuda: cublasLt: a product of %lld x %lld x %lld failed: %s", static_cast<long long>(p->m),
                    static_cast<long long>(p->n), static_cast<long long>(p->k), cublasLtGetStatusString(e));
}

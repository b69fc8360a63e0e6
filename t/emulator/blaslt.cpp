/* SPDX-License-Identifier: MIT */
/* A stand-in for cuBLASLt: products in plain loops, f32 or bf16 in, f32 arithmetic (a sum in the order of k),
 * batches, row and column order; no epilogues. It refuses what the library is known to refuse, and a use for
 * which the algorithm was not chosen: pointers less aligned or a workspace smaller than the preference said.
 * What algorithms the library has for which shapes only the library knows. */
#include <cublasLt.h>
#include <map>
#include <set>
#include <string.h>

#include "device.h"
#include "emulator.h"

struct layout {
    cudaDataType_t type;
    int32_t order;
    uint64_t rows, columns;
    int64_t ld;
    int32_t batch;
    int64_t stride;
};
struct description {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasOperation_t a, b;
    cublasLtEpilogue_t epilogue;
};
struct preference {
    uint64_t workspace;
    uint32_t aligned[4]; /* a, b, c, d: bytes */
};
static_assert(sizeof(layout) <= sizeof(cublasLtMatrixLayoutOpaque_t), "kept in the library's own structure");
static_assert(sizeof(preference) <= sizeof(cublasLtMatmulAlgo_t),
              "an algorithm is the preference it was chosen for");

template <class Own, class Handle> static Own *own(Handle h)
{
    return reinterpret_cast<Own *>(h);
}
template <class Own, class Opaque> static Own *make(Opaque **h)
{
    *h = new Opaque();
    return reinterpret_cast<Own *>(*h);
}

static size_t element(cudaDataType_t type)
{
    return type == CUDA_R_32F ? 4 : 2;
}

/* ---- handles and what describes a product ---- */

cublasStatus_t cublasLtCreate(cublasLtHandle_t *h)
{
    if (injected(__func__) != cudaSuccess)
        return CUBLAS_STATUS_NOT_INITIALIZED;
    *h = reinterpret_cast<cublasLtHandle_t>(new char());
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t h)
{
    delete reinterpret_cast<char *>(h);
    return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion()
{
    return 0;
}
const char *cublasLtGetStatusString(cublasStatus_t e)
{
    return e == CUBLAS_STATUS_SUCCESS ? "CUBLAS_STATUS_SUCCESS" : "an error of the stand-in for cuBLASLt";
}
const char *cublasLtGetStatusName(cublasStatus_t e)
{
    return cublasLtGetStatusString(e);
}

/* Sets the member of `size` bytes at `to`. */
static cublasStatus_t set(void *to, size_t size, const void *value, size_t bytes)
{
    if (!value || bytes != size)
        return CUBLAS_STATUS_INVALID_VALUE;
    memcpy(to, value, size);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *h, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    *make<description>(h) = {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t h, cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    description *d = own<description>(h);
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        return set(&d->a, sizeof d->a, value, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
        return set(&d->b, sizeof d->b, value, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        return set(&d->epilogue, sizeof d->epilogue, value, bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *h, cudaDataType_t type, uint64_t rows,
                                          uint64_t columns, int64_t ld)
{
    *make<layout>(h) = {type, CUBLASLT_ORDER_COL, rows, columns, ld, 1, 0};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t h, cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t bytes)
{
    layout *l = own<layout>(h);
    switch (what) {
    case CUBLASLT_MATRIX_LAYOUT_ORDER:
        return set(&l->order, sizeof l->order, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_LD:
        return set(&l->ld, sizeof l->ld, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
        return set(&l->batch, sizeof l->batch, value, bytes);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
        return set(&l->stride, sizeof l->stride, value, bytes);
    default:
        return CUBLAS_STATUS_NOT_SUPPORTED;
    }
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *h)
{
    *make<preference>(h) = {0, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t h)
{
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t h,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes)
{
    preference *p = own<preference>(h);
    switch (what) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
        return set(&p->workspace, sizeof p->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
        return set(&p->aligned[0], sizeof p->aligned[0], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
        return set(&p->aligned[1], sizeof p->aligned[1], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
        return set(&p->aligned[2], sizeof p->aligned[2], value, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
        return set(&p->aligned[3], sizeof p->aligned[3], value, bytes);
    default: /* what else is wished for has no meaning here */
        return CUBLAS_STATUS_SUCCESS;
    }
}

/* ---- what is refused ---- */

static bool holds(const layout *l)
{
    uint64_t across = l->order == CUBLASLT_ORDER_ROW ? l->columns : l->rows;
    return l->rows && l->columns && l->ld >= static_cast<int64_t>(across) && l->batch >= 1 &&
           (l->order == CUBLASLT_ORDER_COL || l->order == CUBLASLT_ORDER_ROW);
}

/* The matrices fit each other; m, n and k follow from them. */
struct shape {
    uint64_t m, n, k;
};
static cublasStatus_t shape_of(const description *d, const layout *a, const layout *b, const layout *c,
                               const layout *to, shape *s)
{
    if (!holds(a) || !holds(b) || !holds(c) || !holds(to))
        return CUBLAS_STATUS_INVALID_VALUE;
    bool ta = d->a != CUBLAS_OP_N, tb = d->b != CUBLAS_OP_N;
    *s = {ta ? a->columns : a->rows, tb ? b->rows : b->columns, ta ? a->rows : a->columns};
    if ((tb ? b->columns : b->rows) != s->k || c->rows != s->m || c->columns != s->n || to->rows != s->m ||
        to->columns != s->n || b->batch != a->batch || c->batch != a->batch || to->batch != a->batch)
        return CUBLAS_STATUS_INVALID_VALUE;
    bool floats = a->type == CUDA_R_32F && to->type == CUDA_R_32F;
    bool halves = a->type == CUDA_R_16BF && (to->type == CUDA_R_16BF || to->type == CUDA_R_32F);
    bool computes = d->compute == CUBLAS_COMPUTE_32F || (floats && d->compute == CUBLAS_COMPUTE_32F_PEDANTIC);
    if (!computes || d->scale != CUDA_R_32F || d->epilogue != CUBLASLT_EPILOGUE_DEFAULT || b->type != a->type ||
        c->type != to->type || !(floats || halves))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    return CUBLAS_STATUS_SUCCESS;
}

/* What it says a product needs, an algorithm may be used for where the library has it. */
cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t how, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
                                       cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
                                       cublasLtMatmulHeuristicResult_t *result)
{
    shape s;
    preference p;
    cublasStatus_t e =
        shape_of(own<description>(how), own<layout>(a), own<layout>(b), own<layout>(c), own<layout>(d), &s);
    memcpy(&p, algo, sizeof p);
    for (uint32_t aligned : p.aligned)
        if (!aligned || aligned > 256 || (aligned & (aligned - 1)))
            e = CUBLAS_STATUS_INVALID_VALUE;
    result->workspaceSize = p.workspace;
    return e;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t how,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int asked,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    shape s;
    *found = 0;
    if (injected(__func__) != cudaSuccess)
        return CUBLAS_STATUS_INTERNAL_ERROR;
    if (asked < 1)
        return CUBLAS_STATUS_INVALID_VALUE;
    cublasStatus_t e =
        shape_of(own<description>(how), own<layout>(a), own<layout>(b), own<layout>(c), own<layout>(d), &s);
    if (e != CUBLAS_STATUS_SUCCESS)
        return e;
    memset(results, 0, sizeof *results);
    memcpy(&results->algo, own<preference>(wish), sizeof(preference));
    results->workspaceSize = own<preference>(wish)->workspace;
    *found = 1;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- a product ---- */

/* A matrix of one batch as f32, [rows][columns] with rows of op(matrix); the checker sees what it reads. */
static char *element_at(const layout &l, const void *p, uint64_t r, uint64_t c)
{
    uint64_t ld = static_cast<uint64_t>(l.ld);
    uint64_t at = l.order == CUBLASLT_ORDER_ROW ? r * ld + c : c * ld + r;
    return const_cast<char *>(static_cast<const char *>(p)) + at * element(l.type);
}
static float value_at(const layout &l, const void *p, uint64_t r, uint64_t c)
{
    const char *e = element_at(l, p, r, c);
    uint16_t half;
    float whole;
    memcpy(&whole, e, l.type == CUDA_R_32F ? sizeof whole : 0);
    memcpy(&half, e, sizeof half);
    return l.type == CUDA_R_32F ? whole : emulated_bits<float>(static_cast<uint32_t>(half) << 16);
}
static void touch(const layout &l, const void *p, access how)
{
    bool by_row = l.order == CUBLASLT_ORDER_ROW;
    for (uint64_t i = 0; i < (by_row ? l.rows : l.columns); i++)
        shadow_access(by_row ? element_at(l, p, i, 0) : element_at(l, p, 0, i),
                      (by_row ? l.columns : l.rows) * element(l.type), how, nullptr);
}
static std::vector<float> matrix(const layout &l, const void *p, bool turn)
{
    uint64_t rows = turn ? l.columns : l.rows, columns = turn ? l.rows : l.columns;
    std::vector<float> x(rows * columns);
    touch(l, p, ACCESS_READ);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < columns; c++)
            x[r * columns + c] = turn ? value_at(l, p, c, r) : value_at(l, p, r, c);
    return x;
}
static void put(const layout &l, void *p, uint64_t r, uint64_t c, float v)
{
    char *e = element_at(l, p, r, c);
    if (l.type == CUDA_R_32F)
        memcpy(e, &v, sizeof v);
    else {
        __nv_bfloat16 half = __float2bfloat16_rn(v);
        memcpy(e, &half, sizeof half);
    }
}

struct product {
    description how;
    layout a, b, c, d;
    shape s;
    const void *pa, *pb, *pc;
    void *pd;
    float alpha, beta;
};

static void multiply(const product &p, int64_t batch)
{
    const size_t m = p.s.m, n = p.s.n, k = p.s.k;
    auto of_batch = [batch](const layout &l, const void *x) {
        return static_cast<const char *>(x) + batch * l.stride * static_cast<int64_t>(element(l.type));
    };
    std::vector<float> a = matrix(p.a, of_batch(p.a, p.pa), p.how.a != CUBLAS_OP_N);
    std::vector<float> b = matrix(p.b, of_batch(p.b, p.pb), p.how.b != CUBLAS_OP_N);
    std::vector<float> c, row(n);
    if (p.beta != 0)
        c = matrix(p.c, of_batch(p.c, p.pc), false);
    void *to = const_cast<char *>(of_batch(p.d, p.pd));
    touch(p.d, to, ACCESS_WRITE);
    for (size_t i = 0; i < m; i++) {
        std::fill(row.begin(), row.end(), 0.f);
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < n; j++)
                row[j] += a[i * k + l] * b[l * n + j];
        for (size_t j = 0; j < n; j++)
            put(p.d, to, i, j, p.alpha * row[j] + (p.beta != 0 ? p.beta * c[i * n + j] : 0));
    }
}

/* What of the workspace is written, so that two products at once in one workspace are noticed. */
constexpr size_t WORKSPACE_USED = 4096;

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t how, const void *alpha, const void *a,
                              cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb,
                              const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *d,
                              cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algo, void *workspace,
                              size_t workspace_bytes, cudaStream_t s)
{
    if (injected(__func__) != cudaSuccess)
        return CUBLAS_STATUS_EXECUTION_FAILED;
    product p = {*own<description>(how),
                 *own<layout>(la),
                 *own<layout>(lb),
                 *own<layout>(lc),
                 *own<layout>(ld),
                 {},
                 a,
                 b,
                 c,
                 d,
                 0,
                 0};
    cublasStatus_t e = shape_of(&p.how, &p.a, &p.b, &p.c, &p.d, &p.s);
    if (e != CUBLAS_STATUS_SUCCESS)
        return e;
    memcpy(&p.alpha, alpha, sizeof p.alpha);
    memcpy(&p.beta, beta, sizeof p.beta);
    preference chosen = {workspace_bytes, {16, 16, 16, 16}};
    if (algo)
        memcpy(&chosen, algo, sizeof chosen);
    const void *pointers[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        if (!in_memory(pointers[i]) || reinterpret_cast<uintptr_t>(pointers[i]) % chosen.aligned[i])
            return CUBLAS_STATUS_INVALID_VALUE;
    if (chosen.workspace > workspace_bytes ||
        (chosen.workspace && reinterpret_cast<uintptr_t>(workspace) % 256))
        return CUBLAS_STATUS_INVALID_VALUE;
    static std::set<std::vector<uint64_t>> loaded; /* kernels, a shape each */
    if (loaded.insert({p.s.m, p.s.n, p.s.k, static_cast<uint64_t>(p.a.type), static_cast<uint64_t>(p.d.type)})
            .second)
        stream_may_finish();
    operation op;
    op.name = "cublasLtMatmul()";
    size_t used = std::min<size_t>(chosen.workspace, WORKSPACE_USED);
    op.body = [p, workspace, used] {
        if (used)
            shadow_access(workspace, used, ACCESS_WRITE, nullptr);
        for (int i = 0; i < p.a.batch; i++)
            multiply(p, i);
    };
    stream_queue(s, std::move(op));
    return CUBLAS_STATUS_SUCCESS;
}

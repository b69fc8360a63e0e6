/* SPDX-License-Identifier: MIT */
/* Products by cuBLASLt: transposed or not, both orders, added to what is there, in batches; and what it
 * refuses. */
#include <cublasLt.h>

#include "test.h"

namespace
{
using bf16 = __nv_bfloat16;

struct wish {
    bool ta, tb, rows; /* rows: CUBLASLT_ORDER_ROW */
    float beta;
    int batch;
};
constexpr uint64_t M = 5, N = 7, K = 6;

cublasLtMatrixLayout_t layout_of(cudaDataType_t type, uint64_t rows, uint64_t columns, const wish &w)
{
    cublasLtMatrixLayout_t l;
    int32_t order = w.rows ? CUBLASLT_ORDER_ROW : CUBLASLT_ORDER_COL, batch = w.batch;
    int64_t ld = static_cast<int64_t>(w.rows ? columns : rows), stride = static_cast<int64_t>(rows * columns);
    cublasLtMatrixLayoutCreate(&l, type, rows, columns, ld);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_ORDER, &order, sizeof order);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride);
    return l;
}

size_t place(uint64_t rows, uint64_t columns, uint64_t r, uint64_t c, const wish &w)
{
    return w.rows ? r * columns + c : c * rows + r;
}

template <class T> T number(float v);
template <> float number<float>(float v)
{
    return v;
}
template <> bf16 number<bf16>(float v)
{
    return __float2bfloat16_rn(v);
}

template <class T> bool right(const wish &w, cudaDataType_t type, cudaStream_t s)
{
    const size_t batch = static_cast<size_t>(w.batch);
    std::vector<float> a(batch * M * K), b(batch * K * N), c(batch * M * N);
    std::vector<T> ta, tb;
    for (float &v : a)
        ta.push_back(number<T>(v = static_cast<float>(small_number())));
    for (float &v : b)
        tb.push_back(number<T>(v = static_cast<float>(small_number())));
    for (float &v : c)
        v = static_cast<float>(small_number());
    const uint64_t ra = w.ta ? K : M, ca = w.ta ? M : K, rb = w.tb ? N : K, cb = w.tb ? K : N;
    std::vector<float> want(c.size());
    for (size_t q = 0; q < batch; q++)
        for (uint64_t i = 0; i < M; i++)
            for (uint64_t j = 0; j < N; j++) {
                float sum = w.beta * c[q * M * N + place(M, N, i, j, w)];
                for (uint64_t l = 0; l < K; l++)
                    sum += a[q * M * K + (w.ta ? place(ra, ca, l, i, w) : place(ra, ca, i, l, w))] *
                           b[q * K * N + (w.tb ? place(rb, cb, j, l, w) : place(rb, cb, l, j, w))];
                want[q * M * N + place(M, N, i, j, w)] = sum;
            }
    T *da = to_device(ta, s), *db = to_device(tb, s);
    float *dc = w.beta != 0 ? to_device(c, s) : device<float>(c.size());
    cublasLtHandle_t library;
    cublasLtMatmulDesc_t how;
    cublasLtCreate(&library);
    cublasLtMatmulDescCreate(&how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasOperation_t oa = w.ta ? CUBLAS_OP_T : CUBLAS_OP_N, ob = w.tb ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasLtMatmulDescSetAttribute(how, CUBLASLT_MATMUL_DESC_TRANSA, &oa, sizeof oa);
    cublasLtMatmulDescSetAttribute(how, CUBLASLT_MATMUL_DESC_TRANSB, &ob, sizeof ob);
    cublasLtMatrixLayout_t la = layout_of(type, ra, ca, w), lb = layout_of(type, rb, cb, w),
                           lc = layout_of(CUDA_R_32F, M, N, w);
    cublasLtMatmulPreference_t any;
    cublasLtMatmulPreferenceCreate(&any);
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    const float one = 1;
    bool ok = cublasLtMatmulAlgoGetHeuristic(library, how, la, lb, lc, lc, any, 1, &best, &found) ==
                  CUBLAS_STATUS_SUCCESS &&
              cublasLtMatmul(library, how, &one, da, la, db, lb, &w.beta, dc, lc, dc, lc, &best.algo, nullptr,
                             0, s) == CUBLAS_STATUS_SUCCESS;
    /* an element further it is aligned to less than the 256 bytes for which the algorithm was chosen */
    bool refused = cublasLtMatmul(library, how, &one, da + 1, la, db, lb, &w.beta, dc, lc, dc, lc, &best.algo,
                                  nullptr, 0, s) != CUBLAS_STATUS_SUCCESS;
    return ok && refused && from_device(dc, c.size(), s) == want;
}
} // namespace

bool good_library(cudaStream_t s)
{
    int wrong = 0;
    for (int i = 0; i < 16; i++) {
        wish w = {(i & 1) != 0, (i & 2) != 0, (i & 4) != 0, i & 8 ? 1.f : 0.f, i & 8 ? 2 : 1};
        wrong += !right<float>(w, CUDA_R_32F, s) + !right<bf16>(w, CUDA_R_16BF, s);
    }
    return wrong == 0;
}

void multiply_8(const float *x, float *y, void *workspace, cudaStream_t s)
{
    const wish plain = {false, false, false, 0, 1};
    const float one = 1, zero = 0;
    const uint64_t bytes = 1024;
    cublasLtHandle_t library;
    cublasLtMatmulDesc_t how;
    cublasLtMatmulPreference_t any;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    cublasLtMatrixLayout_t l = layout_of(CUDA_R_32F, 8, 8, plain);
    cublasLtCreate(&library);
    cublasLtMatmulDescCreate(&how, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatmulPreferenceCreate(&any);
    cublasLtMatmulPreferenceSetAttribute(any, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
    cublasLtMatmulAlgoGetHeuristic(library, how, l, l, l, l, any, 1, &best, &found);
    cublasLtMatmul(library, how, &one, x, l, x, l, &zero, y, l, y, l, &best.algo, workspace, bytes, s);
}

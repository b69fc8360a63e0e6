/* SPDX-License-Identifier: MIT */
/* Grouped products in f32, by fused multiply-adds of f32 (no TF32): what bf16 is compared with, right before
 * fast.
 *
 * A block is 256 threads with a tile of 64 x 64 sums, 4 x 4 a thread; k goes in slabs of 16 through shared
 * memory, 2 · 16 · 68 floats. What limits it: two reads of 16 bytes from shared memory per 16 multiply-adds,
 * and that nothing is fetched while a slab is computed. */
#include "grouped.h"

constexpr int F32_TILE = 64, F32_SLAB = 16, F32_LINE = F32_TILE + 4, F32_EACH = 4;

/* Fetches slab[k][m] = op(A)[from + m][at + k], 0 beyond, A turned ([k][m]) or not. Neighbouring threads read
 * neighbours. */
template <bool TURNED>
__device__ void fetch_f32(float *slab, const float *a, int64_t ld, int64_t extent, int64_t from, int64_t depth,
                          int64_t at)
{
    for (int i = static_cast<int>(threadIdx.x); i < F32_TILE * F32_SLAB; i += BLOCK_THREADS) {
        int m = TURNED ? i % F32_TILE : i / F32_SLAB, k = TURNED ? i / F32_TILE : i % F32_SLAB;
        bool there = from + m < extent && at + k < depth;
        slab[k * F32_LINE + m] = !there   ? 0
                                 : TURNED ? a[(at + k) * ld + from + m]
                                          : a[(from + m) * ld + at + k];
    }
}

template <enum grouped_kind KIND>
__device__ void add_tile_f32(float c[F32_EACH][F32_EACH], const struct grouped_product<float> &p,
                             const struct grouped_tile &tile)
{
    SHARED(float, a, F32_SLAB *F32_LINE);
    SHARED(float, b, F32_SLAB *F32_LINE);
    int m = static_cast<int>(threadIdx.x) / 16 * F32_EACH, n = static_cast<int>(threadIdx.x) % 16 * F32_EACH;
    for (int64_t at = 0; at < p.k; at += F32_SLAB) {
        if (!fault("grouped-f32-barrier"))
            __syncthreads(); /* the slabs may still be read */
        fetch_f32<KIND == GROUPED_WEIGHT>(a, p.a, p.lda, p.m, tile.row, p.k, at);
        fetch_f32<KIND != GROUPED_FORWARD>(b, p.b, p.ldb, p.n, tile.column, p.k, at);
        __syncthreads();
        for (int k = 0; k < F32_SLAB; k++) {
            float x[F32_EACH], y[F32_EACH];
            load<F32_EACH>(x, a + k * F32_LINE + m);
            load<F32_EACH>(y, b + k * F32_LINE + n);
            for (int i = 0; i < F32_EACH; i++)
                for (int j = 0; j < F32_EACH; j++)
                    c[i][j] += x[i] * y[j];
        }
    }
}

template <enum grouped_kind KIND>
__global__ void __launch_bounds__(BLOCK_THREADS) grouped_f32(struct grouped_matmul p)
{
    SHARED_DYNAMIC(int32_t, room);
    struct grouped_list list = grouped_list_of<KIND, F32_TILE>(p, room);
    for (int64_t number = blockIdx.x; number < list.tiles; number += gridDim.x) {
        struct grouped_tile tile = grouped_tile_at<F32_TILE>(&list, number);
        struct grouped_product<float> one = grouped_product_of<KIND, float>(p, tile.expert);
        float c[F32_EACH][F32_EACH] = {};
        add_tile_f32<KIND>(c, one, tile);
        for (int i = 0; i < F32_EACH; i++)
            for (int j = 0; j < F32_EACH; j++) {
                int64_t row = tile.row + threadIdx.x / 16 * F32_EACH + i;
                int64_t column = tile.column + threadIdx.x % 16 * F32_EACH + j;
                if (row >= one.m || column >= one.n)
                    continue;
                float *to = static_cast<float *>(one.c) + row * one.ldc + column;
                *to = KIND == GROUPED_WEIGHT && p.beta != 0 ? *to + c[i][j] : c[i][j];
            }
    }
}

void grouped_matmul_f32(struct stream *s, const struct grouped_matmul *p)
{
    void (*kernel)(struct grouped_matmul) = p->kind == GROUPED_WEIGHT  ? grouped_f32<GROUPED_WEIGHT>
                                            : p->kind == GROUPED_INPUT ? grouped_f32<GROUPED_INPUT>
                                                                       : grouped_f32<GROUPED_FORWARD>;
    launch(kernel, grouped_grid(p, F32_TILE, 4), dim3(BLOCK_THREADS), grouped_list_bytes(p->experts),
           cuda_stream(s), *p);
}

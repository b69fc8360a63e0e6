/* SPDX-License-Identifier: MIT */
/* Flash attention (FlashAttention-2, arXiv 2307.08691), causal, with grouped queries: what its kernels share.
 * Formulas are in ref/attention.c.
 *
 * A block of the forward and of dq has some queries of one head and walks over the keys that they see; a
 * block of dk and dv has some keys of one key head and walks over the queries that see them, of all heads of
 * the group, one head after the other. So every sum has one owner and one order, and nothing is added up
 * between blocks.
 *
 * In bf16, 4 warps a block with 16·MB rows (of queries, or keys) each; the rows of the other kind go through
 * shared memory in tiles. Head dims are padded with zeros to D: 64, 128, 192 or 256. Each kernel is made of
 * two products of a warp:
 *
 *     rows_times_rows      c[16·MB, N] = A·Bᵀ of tiles [rows][D]: scores, and their gradients
 *     add_weighted_rows    c[16·MB, D] += w·B, where w [16·MB, N] are sums of the first product, now weights
 *
 * How w gets from sums to an operand: a_fragment_of() (tile.h); it stays in registers. */
#ifndef KERNELS_CUDA_ATTENTION_H
#define KERNELS_CUDA_ATTENTION_H

#include "tile.h"

constexpr int ATTENTION_WARPS = 4, ATTENTION_THREADS = ATTENTION_WARPS * WARP_THREADS, MOST_DIM = 256;
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

/* Rows of a block. */
template <int MB> constexpr int ATTENTION_ROWS = ATTENTION_WARPS * 16 * MB;

__device__ __forceinline__ int warp_number()
{
    return static_cast<int>(threadIdx.x) / WARP_THREADS;
}

/* Fetches ROWS rows of a head's dim columns; those from `rows` on are 0. */
template <int ROWS, int D>
__device__ __forceinline__ void fetch_rows(bf16 *tile, const bf16 *p, int64_t ld, int rows, int64_t dim,
                                           bool packed)
{
    fetch<ROWS, D / PACK_BF16, ATTENTION_THREADS>(tile, p, ld, rows, static_cast<int>(dim), packed);
}

/* c = the warp's rows of A times all N rows of B. */
template <int MB, int N, int D>
__device__ __forceinline__ void rows_times_rows(struct sums<N> c[MB], const bf16 *a, const bf16 *b)
{
    constexpr int PACKS = D / PACK_BF16;
    int a_lanes = lanes_down<PACKS>(), b_lanes = lanes_across<PACKS>();
    clear<MB>(c);
    UNROLL
    for (int k = 0; k < PACKS; k += 2) {
        uint32_t fa[MB][4], fb[4];
        UNROLL
        for (int i = 0; i < MB; i++)
            a_fragment<PACKS>(fa[i], a, a_lanes, 16 * (warp_number() * MB + i), k);
        UNROLL
        for (int n = 0; n < N / 16; n++) {
            b_fragments<PACKS>(fb, b, b_lanes, 16 * n, k);
            UNROLL
            for (int i = 0; i < MB; i++) {
                mma_bf16(c[i].d[2 * n], fa[i], fb);
                mma_bf16(c[i].d[2 * n + 1], fa[i], fb + 2);
            }
        }
    }
}

/* c += w·B. */
template <int MB, int N, int D>
__device__ __forceinline__ void add_weighted_rows(struct sums<D> c[MB], const struct sums<N> w[MB],
                                                  const bf16 *b)
{
    constexpr int PACKS = D / PACK_BF16;
    int lanes = lanes_down<PACKS>();
    UNROLL
    for (int k = 0; k < N / 16; k++) {
        uint32_t fa[MB][4], fb[4];
        UNROLL
        for (int i = 0; i < MB; i++)
            a_fragment_of(fa[i], w[i], k);
        UNROLL
        for (int n = 0; n < PACKS; n += 2) {
            b_fragments_turned<PACKS>(fb, b, lanes, 16 * k, n);
            UNROLL
            for (int i = 0; i < MB; i++) {
                mma_bf16(c[i].d[n], fa[i], fb);
                mma_bf16(c[i].d[n + 1], fa[i], fb + 2);
            }
        }
    }
}

/* Writes the warp's rows of sums, each times `by[i][half]`, to rows of dim columns of which the block has
 * `rows`. */
template <int MB, int D>
__device__ __forceinline__ void put_rows(bf16 *to, int64_t ld, const struct sums<D> c[MB],
                                         const float by[MB][2], int rows, int64_t dim, bool packed)
{
    int g = lane() / 4, t = lane() % 4;
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        int row = 16 * MB * warp_number() + 8 * i + g;
        bf16 *line = to + row * ld;
        float times = by[i / 2][i % 2];
        UNROLL
        for (int n = 0; n < D / 8; n++) {
            int column = 8 * n + 2 * t;
            const float *two = c[i / 2].d[n] + i % 2 * 2;
            if (row < rows)
                put_pair(line + column, two[0] * times, two[1] * times, static_cast<int>(dim) - column, packed);
        }
    }
}

/* Whether what is read and written may be fetched and put in packs. */
static inline bool attention_packed(const struct attention *p)
{
    return packed(BF16, {p->q, p->k, p->v, p->o}, {p->ldq, p->ldk, p->ldv, p->ldo, p->dim});
}

/* false, and a failure is kept, if no kernel has so wide a head or so long a sequence. */
bool attention_fits(const struct attention *p);

/* The same in f32 (attention_f32.cu). Backward: delta is there. */
void attention_f32(struct stream *s, const struct attention *p);
void attention_backward_f32(struct stream *s, const struct attention_backward *b);

#endif

/* SPDX-License-Identifier: MIT */
/* Grouped products: which block has which tile, from offsets that only the device knows.
 *
 * Expert e's product is C[m,n] = op(A)·op(B) with, as in struct matmul,
 *
 *     kind               m       n      k       A             B             C
 *     GROUPED_FORWARD    rows    p.n    p.k     x             w turned not  y
 *     GROUPED_INPUT      rows    p.k    p.n     y             w turned      x
 *     GROUPED_WEIGHT     p.n     p.k    rows    y turned      x turned      w, with beta added to
 *
 * (`turned`: stored with the sum's index in rows; tile.h). C is cut into square tiles. Blocks are persistent:
 * as many as the device runs at once take tiles in turn, block b tiles b, b + blocks, b + 2·blocks and so on
 * of one list. In the list experts stand by descending numbers of rows; an expert's tiles go down its columns
 * first, so that blocks which run together share columns of B. Each block works the list out for itself.
 *
 * Balance. A tile costs k, so costs do not rise along the list (of GROUPED_WEIGHT; with the other kinds all
 * are equal). Then any two blocks differ by the cost of one tile at most, however skewed the rows are: block
 * b's i-th tile costs no more than block 0's i-th, which costs no more than b's (i-1)-th.
 *
 * A tile has one owner, which adds up k in order: the bits depend on neither the number of blocks nor
 * timing. */
#ifndef KERNELS_CUDA_GROUPED_H
#define KERNELS_CUDA_GROUPED_H

#include "rows.h"

/* The list, of one entry an expert in shared memory. */
struct grouped_list {
    int32_t *expert; /* [experts] by descending rows */
    int32_t *end;    /* [experts] rows of tiles of this and the ones before */
    int64_t across;  /* tiles in a row of tiles */
    int64_t tiles;
    int at; /* where the block is */
};

/* One expert's product. T: of a and b. */
template <class T> struct grouped_product {
    int64_t m, n, k;
    const T *a;
    int64_t lda;
    const T *b;
    int64_t ldb;
    void *c; /* T, or float (GROUPED_WEIGHT) */
    int64_t ldc;
};

/* The place of a tile. */
struct grouped_tile {
    int expert;
    int64_t row, column; /* of C, its first */
};

/* The bytes of a list. */
static inline size_t grouped_list_bytes(int64_t experts)
{
    return 2 * static_cast<size_t>(experts) * sizeof(int32_t);
}

__device__ __forceinline__ int32_t grouped_first(const struct grouped_matmul &p, int64_t expert)
{
    return static_cast<int32_t>(fault("grouped-bound") ? p.row[expert] : counted(p.rows, &p.row[expert]));
}
__device__ __forceinline__ int32_t grouped_rows(const struct grouped_matmul &p, int64_t expert)
{
    return grouped_first(p, expert + 1) - grouped_first(p, expert);
}

/* Rows of tiles of an expert with so many rows. Weights of none are zeros, where they are not added to. */
template <enum grouped_kind KIND, int TILE>
__device__ __forceinline__ int32_t grouped_down(const struct grouped_matmul &p, int32_t rows)
{
    if (rows <= 0 && !(KIND == GROUPED_WEIGHT && p.beta == 0))
        return 0;
    return static_cast<int32_t>(ceil_quotient(KIND == GROUPED_WEIGHT ? p.n : rows, TILE));
}

/* Makes the list in `room` of shared memory, grouped_list_bytes() long. All threads of the block call it. An
 * expert's rank is how many have more rows, or as many and a lower number: experts² comparisons a block. */
template <enum grouped_kind KIND, int TILE>
__device__ struct grouped_list grouped_list_of(const struct grouped_matmul &p, int32_t *room)
{
    int experts = static_cast<int>(p.experts);
    struct grouped_list list = {};
    list.expert = room;
    list.end = room + experts;
    for (int e = static_cast<int>(threadIdx.x); e < experts; e += static_cast<int>(blockDim.x)) {
        int32_t mine = grouped_rows(p, e), rank = 0, end = grouped_down<KIND, TILE>(p, mine);
        for (int i = 0; i < experts; i++) {
            int32_t rows = grouped_rows(p, i);
            if (rows > mine || (rows == mine && i < e)) {
                rank++;
                end += grouped_down<KIND, TILE>(p, rows);
            }
        }
        list.expert[rank] = e;
        list.end[rank] = end;
    }
    if (!fault("grouped-list"))
        __syncthreads();
    list.across = ceil_quotient(KIND == GROUPED_FORWARD ? p.n : p.k, TILE);
    list.tiles = list.end[experts - 1] * list.across;
    return list;
}

/* Tile `number` of the list; numbers must not fall from call to call. */
template <int TILE>
__device__ __forceinline__ struct grouped_tile grouped_tile_at(struct grouped_list *list, int64_t number)
{
    while (number >= list->end[list->at] * list->across)
        list->at++;
    int32_t before = list->at ? list->end[list->at - 1] : 0, down = list->end[list->at] - before;
    int64_t inside = number - before * list->across;
    if (fault("grouped-offset"))
        inside += down > 1;
    return {list->expert[list->at], inside % down * TILE, inside / down * TILE};
}

template <enum grouped_kind KIND, class T>
__device__ __forceinline__ struct grouped_product<T> grouped_product_of(const struct grouped_matmul &p,
                                                                        int expert) {
    int64_t first = grouped_first(p, expert), rows = grouped_rows(p, expert), w = expert * p.stride;
    T *x = static_cast<T *>(p.x) + first * p.ldx, *y = static_cast<T *>(p.y) + first * p.ldy;
    if (KIND == GROUPED_FORWARD)
        return {rows, p.n, p.k, x, p.ldx, static_cast<T *>(p.w) + w, p.k, y, p.ldy};
    if (KIND == GROUPED_INPUT)
        return {rows, p.k, p.n, y, p.ldy, static_cast<T *>(p.w) + w, p.k, x, p.ldx};
    return {p.n, p.k, rows, y, p.ldy, x, p.ldx, static_cast<float *>(p.w) + w, p.k};
}

/* How many persistent blocks to launch: `each` a multiprocessor, but no more than there can be tiles. 0 if
 * there is nothing to do. */
dim3 grouped_grid(const struct grouped_matmul *p, int tile, int each);

/* The products in f32 (grouped_f32.cu). */
void grouped_matmul_f32(struct stream *s, const struct grouped_matmul *p);

#endif

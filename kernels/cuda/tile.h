/* SPDX-License-Identifier: MIT */
/* Tiles of bf16 matrices in shared memory, and products of them on tensor cores: what grouped products and
 * attention are made of.
 *
 * A row of a tile is cut into packs of 8 elements (16 bytes). One fetch or one row of an ldmatrix is a pack.
 * Shared memory serves 8 packs at a time if they lie in 8 different places modulo 128 bytes; ldmatrix asks for
 * the same pack of 8 rows in a row, which would all be in the same place. So pack c of row r is kept where pack
 * c XOR turn(r) would be:
 *
 *     8 packs a row or more    turn(r) = r % 8: 8 rows in a row put pack c in 8 places
 *     4 packs a row            turn(r) = r / 2 % 4: two rows fill 128 bytes, and four pairs turn differently
 *
 * Fragments, lane = thread % 32, and what ldmatrix and mma do with them: ptx.h. A matrix is said to be
 * `turned` when it is stored with the sum's index in rows (A as [k][m], B as [k][n]). Functions here are
 * called by all 32 lanes of a warp. */
#ifndef KERNELS_CUDA_TILE_H
#define KERNELS_CUDA_TILE_H

#include "ptx.h"
#include "rows.h"

/* Loops over fragments must be unrolled whole, or these could not lie in registers; slow ones need not be. */
#ifdef MOEKIT_EMULATED
#define UNROLL
#define NO_UNROLL
#else
#define UNROLL    _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")
#endif

constexpr int PACK_BF16 = PACK<bf16>;

__device__ __forceinline__ int lane()
{
    return static_cast<int>(threadIdx.x) % WARP_THREADS;
}

/* The element at which pack `pack` of row `row` begins, in a tile of PACKS packs a row. */
template <int PACKS> __device__ __forceinline__ int spot(int row, int pack)
{
    static_assert(PACKS == 4 || PACKS % 8 == 0, "the XOR must stay in the row");
    int turn = PACKS == 4 ? row / 2 % 4 : row % 8;
    return (row * PACKS + (pack ^ turn)) * PACK_BF16;
}

/* What is left of `extent` from `from` on, as an int: a tile asks for less than 2^30. */
__device__ __forceinline__ int left_of(int64_t extent, int64_t from)
{
    int64_t left = extent - from;
    return static_cast<int>(left < 0 ? 0 : left > 1 << 30 ? 1 << 30 : left);
}

/* How many elements of a pack from `column` on there are. */
__device__ __forceinline__ int in_pack(int columns, int column)
{
    int n = columns - column + (fault("tile-columns") ? 1 : 0);
    return n < 0 ? 0 : n > PACK_BF16 ? PACK_BF16 : n;
}

/* Reads the n elements of a pack one by one; the rest is 0. */
__device__ __forceinline__ uint4 gather_pack(const bf16 *from, int n)
{
    union {
        uint4 all;
        bf16 each[PACK_BF16];
    } u = {};
    UNROLL
    for (int i = 0; i < PACK_BF16; i++)
        if (i < n)
            u.each[i] = from[i];
    return u.all;
}

/* Begins to fetch a tile of ROWS rows of PACKS packs from p, whose rows are ld apart and of which `rows`
 * rows and `columns` columns are there; the rest becomes 0. All THREADS threads of the block call it.
 * `packed`: p and ld are multiples of a pack, and the tile is there after cp_async_commit(), a wait and a
 * barrier; else it is there after a barrier, and slowly. */
template <int ROWS, int PACKS, int THREADS>
__device__ __forceinline__ void fetch(bf16 *tile, const bf16 *p, int64_t ld, int rows, int columns, bool packed)
{
    static_assert(ROWS * PACKS % THREADS == 0, "each thread has as many packs");
    if (packed) {
        UNROLL
        for (int i = 0; i < ROWS * PACKS / THREADS; i++) {
            int at = i * THREADS + static_cast<int>(threadIdx.x), row = at / PACKS, pack = at % PACKS;
            int n = row < rows || fault("tile-rows") ? in_pack(columns, pack * PACK_BF16) : 0;
            const bf16 *from = n ? p + row * ld + pack * PACK_BF16 : p;
            cp_async_16(tile + spot<PACKS>(row, pack), from, n * static_cast<int>(sizeof(bf16)));
        }
        return;
    }
    NO_UNROLL
    for (int at = static_cast<int>(threadIdx.x); at < ROWS * PACKS; at += THREADS) {
        int row = at / PACKS, pack = at % PACKS, n = row < rows ? in_pack(columns, pack * PACK_BF16) : 0;
        uint4 *to = reinterpret_cast<uint4 *>(tile + spot<PACKS>(row, pack));
        *to = gather_pack(p + row * ld + pack * PACK_BF16, n);
    }
}

/* Lanes' places in a fragment of 16 x 16, at the beginning of a tile: `down` has rows 0 to 15 of the first pack
 * and then of the second, `across` the two packs of rows 0 to 7 and then of rows 8 to 15. */
template <int PACKS> __device__ __forceinline__ int lanes_down()
{
    return opaque(spot<PACKS>(lane() % 16, lane() / 16));
}
template <int PACKS> __device__ __forceinline__ int lanes_across()
{
    return opaque(spot<PACKS>(lane() % 8 + lane() / 16 * 8, lane() / 8 % 2));
}

/* The same from row `row`, a multiple of 8, and pack `pack`, an even number, on: turn() has a period of 8
 * rows, and (pack + c) XOR turn is pack XOR (c XOR turn). */
template <int PACKS> __device__ __forceinline__ int moved(int lanes, int row, int pack)
{
    return (lanes ^ pack % 8 * PACK_BF16) + (pack / 8 * 8 + row * PACKS) * PACK_BF16;
}

/* A[16,16] from row `row` and pack `pack` of a tile of A; lanes_down(). */
template <int PACKS>
__device__ __forceinline__ void a_fragment(uint32_t a[4], const bf16 *tile, int lanes, int row, int pack)
{
    ldmatrix_x4(a, tile + moved<PACKS>(lanes, row, pack));
    if (fault("fragment-registers"))
        a[1] = a[2];
}
/* The same of a tile of A turned: its row `row` is the first k, its pack `pack` has the first m;
 * lanes_across(). */
template <int PACKS>
__device__ __forceinline__ void a_fragment_turned(uint32_t a[4], const bf16 *tile, int lanes, int row, int pack)
{
    ldmatrix_x4_trans(a, tile + moved<PACKS>(lanes, row, pack));
}
/* B[16,16] as two fragments of 8 columns, b[0..1] and b[2..3]. Of a tile of B stored [n][k]: row `row` is the
 * first n, pack `pack` has the first k; lanes_across(). */
template <int PACKS>
__device__ __forceinline__ void b_fragments(uint32_t b[4], const bf16 *tile, int lanes, int row, int pack)
{
    ldmatrix_x4(b, tile + moved<PACKS>(lanes, row, pack));
}
/* The same of a tile of B turned: its row `row` is the first k, its pack `pack` has the first n;
 * lanes_down(). */
template <int PACKS>
__device__ __forceinline__ void b_fragments_turned(uint32_t b[4], const bf16 *tile, int lanes, int row,
                                                   int pack)
{
    ldmatrix_x4_trans(b, tile + moved<PACKS>(lanes, row, pack));
}

/* A row of fragments of sums: N columns, in fragments of 8. Element d[n][i] is of row g + 8·(i / 2) and column
 * 8·n + 2t + i % 2, with g = lane / 4 and t = lane % 4. */
template <int N> struct sums {
    float d[N / 8][4];
};

template <int M, int N> __device__ __forceinline__ void clear(struct sums<N> c[M])
{
    UNROLL
    for (int i = 0; i < M * N / 2; i++)
        c[i / (N / 2)].d[i / 4 % (N / 8)][i % 4] = 0;
}

/* Two floats rounded to bf16, the first in the low half. */
__device__ __forceinline__ uint32_t pair_of(float low, float high)
{
    union {
        __nv_bfloat162 two;
        uint32_t all;
    } u = {__floats2bfloat162_rn(low, high)};
    return u.all;
}

/* Columns [16·k, 16·k+16) of sums, rounded, as A[16,16]: where a lane has D[g][2t], it needs A[g][2t]. */
template <int N> __device__ __forceinline__ void a_fragment_of(uint32_t a[4], const struct sums<N> &c, int k)
{
    a[0] =
        fault("fragment-lane") ? pair_of(c.d[2 * k][1], c.d[2 * k][0]) : pair_of(c.d[2 * k][0], c.d[2 * k][1]);
    a[1] = pair_of(c.d[2 * k][2], c.d[2 * k][3]);
    a[2] = pair_of(c.d[2 * k + 1][0], c.d[2 * k + 1][1]);
    a[3] = pair_of(c.d[2 * k + 1][2], c.d[2 * k + 1][3]);
}

/* Puts two neighbouring elements of row-major c, of which `columns` (0, 1, more) are there. */
__device__ __forceinline__ void put_pair(bf16 *c, float low, float high, int columns, bool packed)
{
    if (packed && columns > 1) {
        *reinterpret_cast<uint32_t *>(c) = pair_of(low, high);
    } else {
        if (columns > 0)
            put(c, low);
        if (columns > 1)
            put(c + 1, high);
    }
}

#endif

/* SPDX-License-Identifier: MIT */
/* Grouped products in bf16, on tensor cores.
 *
 * A block is 4 warps with a tile of 128 x 128 sums, 64 x 64 a warp: 4 x 8 fragments, 128 registers a thread.
 * Per 16 of k a warp reads 4 KiB of shared memory for 32 mma, so that tensor cores and not shared memory are
 * what a block waits for. k goes in slabs of 32 through a ring of 4 (cp.async): three are under way while
 * one is computed. Shared memory: 4 slabs · 2 operands · 128 · 32 · 2 bytes = 64 KiB, and 8 bytes an expert;
 * two blocks a multiprocessor, of which one computes while the other begins or ends a tile.
 *
 * What limits it: mma.sync, which is about all that sm_80 has and some 60% of what later ones have; the
 * first three slabs of a tile, which nothing of the same block covers (k < 512, say); experts with few rows,
 * whose tiles are mostly padding (a warp without rows of its own only helps to fetch); and rows that cannot
 * be fetched in packs of 16 bytes, many times slower, which no model of use has. */
#include "grouped.h"
#include "tile.h"

constexpr int TILE = 128, SLAB = 32, RING = 4, GROUPED_THREADS = 128, WARP_TILE = 64;
constexpr int OPERAND = TILE * SLAB; /* elements of a slab of A or B */
constexpr size_t RING_BYTES = 2 * RING * OPERAND * sizeof(bf16);

/* One of a product's operands, from the tile's first m (or n) on. */
struct operand {
    const bf16 *p;
    int64_t ld;
    int left; /* of m (or n) */
};

template <bool TURNED>
__device__ __forceinline__ struct operand operand_of(const bf16 *p, int64_t ld, int64_t extent, int64_t from)
{
    return {p + (TURNED ? from : from * ld), ld, left_of(extent, from)};
}

/* Begins to fetch 32 of k, of which `left` are there, from `at` on. */
template <bool TURNED>
__device__ __forceinline__ void fetch_slab(bf16 *to, const struct operand &o, int64_t at, int left, bool packed)
{
    if (TURNED)
        fetch<SLAB, TILE / PACK_BF16, GROUPED_THREADS>(to, o.p + at * o.ld, o.ld, left, o.left, packed);
    else
        fetch<TILE, SLAB / PACK_BF16, GROUPED_THREADS>(to, o.p + at, o.ld, o.left, left, packed);
}

/* c += the warp's part of a slab, from its first m and n in the tile on. */
template <bool A_TURNED, bool B_TURNED>
__device__ __forceinline__ void add_slab(struct sums<WARP_TILE> c[WARP_TILE / 16], const bf16 *a, const bf16 *b,
                                         int m, int n)
{
    constexpr int THIN = SLAB / PACK_BF16, WIDE = TILE / PACK_BF16;
    int a_lanes = A_TURNED ? lanes_across<WIDE>() : lanes_down<THIN>();
    int b_lanes = B_TURNED ? lanes_down<WIDE>() : lanes_across<THIN>();
    UNROLL
    for (int k = 0; k < SLAB; k += 16) {
        uint32_t fa[WARP_TILE / 16][4], fb[4];
        UNROLL
        for (int i = 0; i < WARP_TILE / 16; i++)
            if (A_TURNED)
                a_fragment_turned<WIDE>(fa[i], a, a_lanes, k, (m + 16 * i) / PACK_BF16);
            else
                a_fragment<THIN>(fa[i], a, a_lanes, m + 16 * i, k / PACK_BF16);
        UNROLL
        for (int j = 0; j < WARP_TILE / 16; j++) {
            if (B_TURNED)
                b_fragments_turned<WIDE>(fb, b, b_lanes, k, (n + 16 * j) / PACK_BF16);
            else
                b_fragments<THIN>(fb, b, b_lanes, n + 16 * j, k / PACK_BF16);
            UNROLL
            for (int i = 0; i < WARP_TILE / 16; i++) {
                mma_bf16(c[i].d[2 * j], fa[i], fb);
                mma_bf16(c[i].d[2 * j + 1], fa[i], fb + 2);
            }
        }
    }
}

/* Two neighbouring sums to where they belong; add: to f32 that are there. */
__device__ __forceinline__ void put_sums(bf16 *c, float low, float high, int columns, bool packed, bool)
{
    put_pair(c, low, high, columns, packed);
}
__device__ __forceinline__ void put_sums(float *c, float low, float high, int columns, bool packed, bool add)
{
    if (packed && columns > 1) {
        float2 *pair = reinterpret_cast<float2 *>(c), old = add ? *pair : make_float2(0, 0);
        *pair = make_float2(old.x + low, old.y + high);
    } else {
        if (columns > 0)
            c[0] = add ? c[0] + low : low;
        if (columns > 1)
            c[1] = add ? c[1] + high : high;
    }
}

/* The warp's sums to C, from row m and column n on. */
template <class C, class T>
__device__ __forceinline__ void put_warp(const struct grouped_product<T> &p,
                                         const struct sums<WARP_TILE> c[WARP_TILE / 16], int64_t m, int64_t n,
                                         bool packed, bool add)
{
    int g = lane() / 4, t = lane() % 4, rows = left_of(p.m, m), columns = left_of(p.n, n);
    C *to = static_cast<C *>(p.c) + m * p.ldc + n;
    UNROLL
    for (int i = 0; i < WARP_TILE / 8; i++) {
        int row = 8 * i + g;
        C *line = to + row * p.ldc;
        UNROLL
        for (int j = 0; j < WARP_TILE / 8; j++) {
            int column = 8 * j + 2 * t;
            const float *two = c[i / 2].d[j] + i % 2 * 2;
            if (row < rows)
                put_sums(line + column, two[0], two[1], columns - column, packed, add);
        }
    }
}

/* The sums of the tile: the block's threads fetch, each warp adds its part up. In step i slab i is computed,
 * and slab i + 3 goes where slab i - 1 was, which all have read when they come to step i's barrier. */
template <bool A_TURNED, bool B_TURNED>
__device__ __forceinline__ void add_tile(struct sums<WARP_TILE> c[WARP_TILE / 16],
                                         const struct grouped_product<bf16> &p, const struct operand &a,
                                         const struct operand &b, bf16 *ring, bool busy, bool packed)
{
    int warp = static_cast<int>(threadIdx.x) / WARP_THREADS;
    int64_t steps = ceil_quotient(p.k, SLAB);
    for (int64_t i = 1 - RING; i < steps; i++) {
        if (i >= 0) {
            if (fault("grouped-wait"))
                cp_async_wait<RING - 1>();
            else
                cp_async_wait<RING - 2>();
            if (!fault("grouped-barrier"))
                __syncthreads();
        }
        int64_t next = i + RING - 1;
        bf16 *slot = ring + next % RING * 2 * OPERAND;
        if (next < steps) {
            int left = left_of(p.k, next * SLAB);
            fetch_slab<A_TURNED>(slot, a, next * SLAB, left, packed);
            fetch_slab<B_TURNED>(slot + OPERAND, b, next * SLAB, left, packed);
        }
        cp_async_commit();
        const bf16 *now = ring + (i + RING) % RING * 2 * OPERAND;
        if (i >= 0 && busy)
            add_slab<A_TURNED, B_TURNED>(c, now, now + OPERAND, warp / 2 * WARP_TILE, warp % 2 * WARP_TILE);
    }
    cp_async_wait<0>();
    if (!fault("grouped-ring"))
        __syncthreads(); /* the next tile overwrites the ring */
}

template <enum grouped_kind KIND>
__global__ void __launch_bounds__(GROUPED_THREADS, 2) grouped_bf16(struct grouped_matmul p, bool packed)
{
    constexpr bool A_TURNED = KIND == GROUPED_WEIGHT, B_TURNED = KIND != GROUPED_FORWARD;
    SHARED_DYNAMIC(bf16, ring);
    struct grouped_list list =
        grouped_list_of<KIND, TILE>(p, reinterpret_cast<int32_t *>(ring + RING_BYTES / sizeof(bf16)));
    int warp = static_cast<int>(threadIdx.x) / WARP_THREADS;
    for (int64_t number = blockIdx.x; number < list.tiles; number += gridDim.x) {
        struct grouped_tile tile = grouped_tile_at<TILE>(&list, number);
        struct grouped_product<bf16> one = grouped_product_of<KIND, bf16>(p, tile.expert);
        struct operand a = operand_of<A_TURNED>(one.a, one.lda, one.m, tile.row);
        struct operand b = operand_of<B_TURNED>(one.b, one.ldb, one.n, tile.column);
        int64_t m = tile.row + warp / 2 * WARP_TILE, n = tile.column + warp % 2 * WARP_TILE;
        bool busy = m < one.m && n < one.n;
        struct sums<WARP_TILE> c[WARP_TILE / 16];
        clear<WARP_TILE / 16>(c);
        add_tile<A_TURNED, B_TURNED>(c, one, a, b, ring, busy, packed);
        if (!busy)
            continue;
        if (KIND == GROUPED_WEIGHT)
            put_warp<float>(one, c, m, n, packed, p.beta != 0);
        else
            put_warp<bf16>(one, c, m, n, packed, false);
    }
}

dim3 grouped_grid(const struct grouped_matmul *p, int tile, int each)
{
    int device = 0, processors = 0;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess)
        e = cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    cuda_keep(e, "asking for multiprocessors");
    int64_t width = p->kind == GROUPED_FORWARD ? p->n : p->k, down = ceil_quotient(p->rows, tile) + p->experts;
    bool zeros = p->kind == GROUPED_WEIGHT && p->beta == 0; /* without rows too */
    if (p->kind == GROUPED_WEIGHT)
        down = p->experts * ceil_quotient(p->n, tile);
    int64_t tiles = (p->experts > 0 && (p->rows > 0 || zeros) ? down : 0) * ceil_quotient(width, tile);
    int64_t most = static_cast<int64_t>(processors) * each;
    return dim3(static_cast<unsigned>(tiles < most ? tiles : most));
}

void cuda_grouped_matmul(struct stream *s, const struct grouped_matmul *p)
{
    if (p->type == F32) {
        grouped_matmul_f32(s, p);
        return;
    }
    bool weight = p->kind == GROUPED_WEIGHT;
    bool packs = packed(BF16, {p->x, p->y, p->w}, {p->ldx, p->ldy, weight ? 0 : p->stride, p->k}) &&
                 packed(F32, {}, {weight ? p->stride : 0});
    size_t shared = RING_BYTES + grouped_list_bytes(p->experts);
    void (*kernel)(struct grouped_matmul, bool) = weight                     ? grouped_bf16<GROUPED_WEIGHT>
                                                  : p->kind == GROUPED_INPUT ? grouped_bf16<GROUPED_INPUT>
                                                                             : grouped_bf16<GROUPED_FORWARD>;
    launch(kernel, grouped_grid(p, TILE, 2), dim3(GROUPED_THREADS), shared, cuda_stream(s), *p, packs);
}

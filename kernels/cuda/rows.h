/* SPDX-License-Identifier: MIT */
/* How kernels walk over rows of elements: numbers of a tensor's type in packs of 16 bytes where they are
 * aligned, which threads have which, and sums and maxima over a row, always in the same order.
 *
 * Two shapes of launches:
 *   tiles   a thread has one pack, and nobody needs another's: blocks are tiles of 256 threads over rows and
 *           columns, x along the row
 *   lines   the threads of a line, 32 or 256 (a warp or a block), share a row: a block has 8 lines or 1 */
#ifndef KERNELS_CUDA_ROWS_H
#define KERNELS_CUDA_ROWS_H

#include <initializer_list>

#include "cuda.h"

typedef __nv_bfloat16 bf16;

constexpr int BLOCK_THREADS = 256, WARP_THREADS = 32, WARPS = BLOCK_THREADS / WARP_THREADS;
constexpr unsigned ALL_LANES = 0xffffffff;

/* ---- numbers ---- */

__device__ __forceinline__ float number(float x)
{
    return x;
}
__device__ __forceinline__ float number(bf16 x)
{
    return __bfloat162float(x);
}
__device__ __forceinline__ void put(float *p, float x)
{
    *p = x;
}
__device__ __forceinline__ void put(bf16 *p, float x)
{
    *p = __float2bfloat16_rn(x);
}

/* An integer of so many bytes: what one instruction moves. */
template <int BYTES> struct word;
template <> struct word<2> {
    typedef unsigned short type;
};
template <> struct word<4> {
    typedef unsigned type;
};
template <> struct word<8> {
    typedef uint2 type;
};
template <> struct word<16> {
    typedef uint4 type;
};

/* N elements at p, aligned to as many bytes as they have, 16 at most. */
template <int N, class T> __device__ __forceinline__ void load(float v[N], const T *p)
{
    constexpr int BYTES = N * sizeof(T) < 16 ? N * sizeof(T) : 16, EACH = BYTES / sizeof(T);
    for (int i = 0; i < N; i += EACH) {
        union {
            typename word<BYTES>::type all;
            T each[EACH];
        } u = {*reinterpret_cast<const typename word<BYTES>::type *>(p + i)};
        for (int j = 0; j < EACH; j++)
            v[i + j] = number(u.each[j]);
    }
}
template <int N, class T> __device__ __forceinline__ void store(T *p, const float v[N])
{
    constexpr int BYTES = N * sizeof(T) < 16 ? N * sizeof(T) : 16, EACH = BYTES / sizeof(T);
    for (int i = 0; i < N; i += EACH) {
        union {
            typename word<BYTES>::type all;
            T each[EACH];
        } u = {};
        for (int j = 0; j < EACH; j++)
            put(&u.each[j], v[i + j]);
        *reinterpret_cast<typename word<BYTES>::type *>(p + i) = u.all;
    }
}

/* Elements in a pack of 16 bytes. */
template <class T> constexpr int PACK = 16 / sizeof(T);

/* Whether all of these pointers are multiples of a pack, and all of these numbers of elements, which are widths
 * and distances of rows: then the rows may be read in packs. NULL and 0 are. */
static inline bool packed(enum type type, std::initializer_list<const void *> pointers,
                          std::initializer_list<int64_t> numbers)
{
    for (const void *p : pointers)
        if (reinterpret_cast<uintptr_t>(p) % 16)
            return false;
    for (int64_t n : numbers)
        if (n * static_cast<int64_t>(type_bytes(type)) % 16 && !fault("misaligned"))
            return false;
    return true;
}

/* Within the bound, how many rows there are. */
__device__ __forceinline__ int64_t counted(int64_t bound, const int32_t *count)
{
    return !count || *count > bound || fault("count-ignored") ? bound : *count;
}

/* ---- tiles ---- */

/* The launch: a one-dimensional grid, since only x may be larger than 65535. */
struct tiles {
    dim3 grid, block;
    unsigned across; /* tiles in a row of tiles */
};
struct place {
    int64_t row, column; /* the thread's; may be beyond the last */
};

__host__ __device__ static inline int64_t ceil_quotient(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* For `rows` rows of `width` elements, N a thread. Blocks are as wide as a row, up to 256 threads. */
static inline struct tiles tiles_over(int64_t rows, int64_t width, int n)
{
    int64_t items = ceil_quotient(width, n);
    unsigned x = 1;
    while (x < items && x < BLOCK_THREADS)
        x *= 2;
    struct tiles t = {};
    t.block = dim3(x, BLOCK_THREADS / x);
    int64_t across = ceil_quotient(items, x), down = ceil_quotient(rows, t.block.y);
    if (across * down > INT32_MAX) {
        failure_set("cuda: %lld rows of %lld elements are too many for a launch", static_cast<long long>(rows),
                    static_cast<long long>(width));
        across = 0;
    }
    t.across = static_cast<unsigned>(across);
    t.grid = dim3(static_cast<unsigned>(across * down));
    return t;
}

template <int N, class P>
void run_tiles(struct stream *s, void (*kernel)(P, unsigned), int64_t rows, int64_t width, const P *p)
{
    struct tiles t = tiles_over(rows, width, N);
    launch(kernel, t.grid, t.block, 0, s->cuda, *p, t.across);
}

/* The place of a thread in a launch of run_tiles(). */
template <int N> __device__ __forceinline__ struct place place_in(unsigned across)
{
    struct place p;
    p.row = static_cast<int64_t>(blockIdx.x / across) * blockDim.y + threadIdx.y + fault("tile-place");
    p.column = (static_cast<int64_t>(blockIdx.x % across) * blockDim.x + threadIdx.x) * N;
    return p;
}

/* ---- lines ---- */

struct lines {
    dim3 grid, block;
};

/* A line for each of `rows` rows, of a warp where a row has few packs. */
static inline struct lines lines_over(int64_t rows, int64_t width, int n)
{
    unsigned x = ceil_quotient(width, n) <= 4 * WARP_THREADS ? WARP_THREADS : BLOCK_THREADS;
    struct lines l;
    l.block = dim3(x, BLOCK_THREADS / x);
    int64_t blocks = ceil_quotient(rows, l.block.y);
    if (blocks > INT32_MAX) {
        failure_set("cuda: %lld rows are too many for a launch", static_cast<long long>(rows));
        blocks = 0;
    }
    l.grid = dim3(static_cast<unsigned>(blocks));
    return l;
}

template <int N, class P>
void run_lines(struct stream *s, void (*kernel)(P), int64_t rows, int64_t width, const P *p)
{
    struct lines l = lines_over(rows, width, N);
    launch(kernel, l.grid, l.block, 0, s->cuda, *p);
}

/* Queues kernel<T, N>(*p) of the type's T, with N of a pack, or of one where `packed` is false. `how` is
 * run_tiles or run_lines. */
#define RUN(how, kernel, s, p, packed, rows, width)                                                            \
    do {                                                                                                       \
        if ((p)->type == F32 && (packed))                                                                      \
            how<PACK<float>>(s, kernel<float, PACK<float>>, rows, width, p);                                   \
        else if ((p)->type == F32)                                                                             \
            how<1>(s, kernel<float, 1>, rows, width, p);                                                       \
        else if (packed)                                                                                       \
            how<PACK<bf16>>(s, kernel<bf16, PACK<bf16>>, rows, width, p);                                      \
        else                                                                                                   \
            how<1>(s, kernel<bf16, 1>, rows, width, p);                                                        \
    } while (0)

__device__ __forceinline__ int64_t line_row()
{
    return static_cast<int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
}

struct plus {
    template <class V> __device__ V operator()(V a, V b) const
    {
        return a + b;
    }
};
struct greater {
    __device__ float operator()(float a, float b) const /* a NaN is no maximum */
    {
        return b > a ? b : a;
    }
};

/* Over the lanes of a warp, in every lane; all 32 call it. */
template <class V, class F> __device__ __forceinline__ V warp_fold(V v, F fold)
{
    for (int distance = WARP_THREADS / 2; distance > 0; distance /= 2)
        v = fold(v, __shfl_xor_sync(ALL_LANES, v, distance));
    return v;
}

/* Over the threads of a line, in all of them. All threads of the block call it, also those of rows beyond. */
template <class V, class F> __device__ __forceinline__ V line_fold(V v, F fold)
{
    v = warp_fold(v, fold);
    if (blockDim.x == WARP_THREADS)
        return v;
    SHARED(V, of_warp, WARPS);
    if (!fault("line-barrier"))
        __syncthreads(); /* of_warp may still be read */
    if (threadIdx.x % WARP_THREADS == 0)
        of_warp[threadIdx.x / WARP_THREADS] = v;
    __syncthreads();
    V all = of_warp[0];
    for (int i = 1; i < WARPS; i++)
        all = fold(all, of_warp[i]);
    return all;
}
template <class V> __device__ __forceinline__ V line_sum(V v)
{
    return line_fold(v, plus());
}
__device__ __forceinline__ float line_max(float v)
{
    return line_fold(v, greater());
}

/* ---- sums over rows: dst[column] ---- */

/* Many rows are summed in two steps: blocks sum some of them each, into part[block][width], and then these
 * are added up in order. How many blocks: a function of the shape alone, so that the sums are the same on
 * every device. */
static inline int64_t column_parts(int64_t rows, int64_t width)
{
    constexpr int64_t FLOATS = SCRATCH_BYTES / sizeof(float);
    int64_t parts = ceil_quotient(rows, 32), most = width > 0 ? FLOATS / width : FLOATS;
    most = most < 512 ? most : 512;
    most = most > 1 ? most : 1; /* a row so wide that its sums alone fill the scratch, or do not fit */
    return parts < most ? parts : most;
}

/* dst[c] += Σ part[i][c] over `parts`. */
void cuda_add_parts(struct stream *s, const float *part, int64_t parts, int64_t width, float *dst);

#endif

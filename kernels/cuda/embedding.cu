/* SPDX-License-Identifier: MIT */
/* The embedding. Its gradient adds up, for each row of the table, the rows of all places of its token, in
 * order: places are sorted by token, stably, digit by digit (sort.h), so that a token's are a run, and the
 * run's block adds them up in registers. */
#include "sort.h"

template <class T, int N> __global__ void embedding_tile(struct embedding p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.tokens || at.column >= p.width)
        return;
    int64_t row = p.token[at.row] - p.first;
    float v[N] = {};
    if (row >= 0 && row < p.count)
        load<N>(v, static_cast<const T *>(p.table) + row * p.width + at.column);
    store<N>(static_cast<T *>(p.y) + at.row * p.width + at.column, v);
}

void cuda_embedding(struct stream *s, const struct embedding *p)
{
    RUN(run_tiles, embedding_tile, s, p, packed(p->type, {p->table, p->y}, {p->width}), p->tokens, p->width);
}

/* ---- gradient ---- */

/* Tokens of one sort. More go piece by piece, which changes no sum: each goes on where the one before ended. */
constexpr int64_t PIECE = 1 << 16;

/* The row of the table that place t adds to; p.count: none. */
__device__ __forceinline__ int64_t row_of(const struct embedding_backward &p, int64_t t)
{
    int64_t row = p.token[t] - p.first;
    return row >= 0 && row < p.count ? row : p.count;
}

/* Places by a digit of their rows, from the order of the pass before; NULL: as they stand. */
struct digit_keys {
    int64_t count;
    int keys, shift;
    const int32_t *order;
    struct embedding_backward p;

    __device__ int32_t number(int64_t i) const
    {
        return order ? order[i] : static_cast<int32_t>(i);
    }
    __device__ int key(int64_t i) const
    {
        return static_cast<int>(row_of(p, number(i)) >> shift & (DIGITS - 1));
    }
};

/* Where the run of places of one row that begins at `begin` ends: by steps twice as long each time, and then by
 * halves. */
__device__ int64_t run_end(const struct embedding_backward &p, const int32_t *order, int64_t begin)
{
    int64_t row = row_of(p, order[begin]), in = begin, out = begin + 1;
    while (out < p.tokens && row_of(p, order[out]) == row) {
        int64_t step = 2 * (out - begin);
        in = out;
        out = begin + step;
    }
    out = out < p.tokens ? out : p.tokens;
    while (out - in > 1) {
        int64_t half = in + (out - in) / 2;
        if (row_of(p, order[half]) == row)
            in = half;
        else
            out = half;
    }
    return out;
}

/* Grid: places in their order, of which the first of a run has work, and tiles of columns, blockDim.x · N
 * each. */
template <class T, int N>
__global__ void __launch_bounds__(BLOCK_THREADS)
    embedding_run(struct embedding_backward p, const int32_t *order)
{
    int64_t begin = blockIdx.x, row = row_of(p, order[begin]);
    int64_t c = (static_cast<int64_t>(blockIdx.y) * blockDim.x + threadIdx.x) * N;
    if (row == p.count || c >= p.width || (begin > 0 && row_of(p, order[begin - 1]) == row))
        return;
    float sum[N], v[N], *to = p.d_table + row * p.width + c;
    int64_t end = run_end(p, order, begin) - fault("embedding-last");
    load<N>(sum, to);
    for (int64_t i = begin; i < end; i++) {
        load<N>(v, static_cast<const T *>(p.dy) + order[i] * p.width + c);
        for (int j = 0; j < N; j++)
            sum[j] += v[j];
    }
    store<N>(to, sum);
}

template <int N>
static void run_runs(struct stream *s, void (*kernel)(struct embedding_backward, const int32_t *),
                     const int32_t *order, int64_t width, const struct embedding_backward *p)
{
    unsigned threads = WARP_THREADS;
    while (threads < BLOCK_THREADS && threads * N < width)
        threads *= 2;
    dim3 grid(static_cast<unsigned>(p->tokens), static_cast<unsigned>(ceil_quotient(width, threads * N)));
    launch(kernel, grid, dim3(threads), 0, s->cuda, *p, order);
}

/* Of PIECE tokens at most. */
static void add_piece(struct stream *s, const struct embedding_backward *p, int32_t *scratch)
{
    int32_t *order = scratch, *next = order + p->tokens, *first = next + p->tokens, *rest = first + DIGITS + 1;
    struct digit_keys keys = {p->tokens, DIGITS, 0, NULL, *p};
    for (; p->count >> keys.shift > 0; keys.shift += DIGIT_BITS) {
        sort_by_key(s, keys, rest, NULL, first, NULL, next);
        keys.order = next;
        next = order;
        order = const_cast<int32_t *>(keys.order);
    }
    bool packs = packed(p->type, {p->dy, p->d_table}, {p->width});
    RUN(run_runs, embedding_run, s, p, packs, order, p->width);
}

void cuda_embedding_backward(struct stream *s, const struct embedding_backward *p)
{
    int64_t most = p->tokens < PIECE ? p->tokens : PIECE;
    int32_t *scratch = cuda_scratch_of<int32_t>(s, 2 * most + DIGITS + 1 + sort_integers(most, DIGITS));
    for (int64_t first = 0; scratch && first < p->tokens && p->count > 0 && p->width > 0; first += PIECE) {
        struct embedding_backward piece = *p;
        piece.token += first;
        piece.dy =
            static_cast<const char *>(p->dy) + static_cast<size_t>(first * p->width) * type_bytes(p->type);
        piece.tokens = p->tokens - first < PIECE ? p->tokens - first : PIECE;
        add_piece(s, &piece, scratch);
    }
}

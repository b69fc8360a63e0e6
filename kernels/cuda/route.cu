/* SPDX-License-Identifier: MIT */
/* Rows on their way to the experts and back: tiles of rows.h. Row numbers are read by every thread of a row,
 * from the caches; the thread of column 0 moves the row's weight. */
#include "rows.h"

template <class T, int N> __global__ void permute_tile(struct permute p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= counted(p.rows, p.count))
        return;
    int32_t source = p.source[at.row];
    if (at.column == 0 && p.weight_out)
        p.weight_out[at.row * p.ldw] = p.weight_in[source];
    if (at.column >= p.width)
        return;
    float v[N];
    load<N>(v, static_cast<const T *>(p.x) + source / p.top_k * p.width + at.column);
    store<N>(static_cast<T *>(p.y) + at.row * p.ldy + at.column, v);
}

void cuda_permute(struct stream *s, const struct permute *p)
{
    RUN(run_tiles, permute_tile, s, p, packed(p->type, {p->x, p->y}, {p->width, p->ldy}), p->rows, p->width);
}

template <class T, int N> __global__ void unpermute_tile(struct unpermute p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.tokens || at.column >= p.width)
        return;
    const int32_t *position = p.position + at.row * p.top_k;
    float sum[N] = {}, v[N];
    for (int64_t k = 0; k < p.top_k; k++) {
        int64_t row = position[k];
        if (at.column == 0 && p.weight_in)
            p.weight_out[at.row * p.top_k + k] = row < 0 ? 0 : p.weight_in[row * p.ldw];
        if (row < 0)
            continue;
        load<N>(v, static_cast<const T *>(p.x) + row * p.ldx + at.column);
        for (int j = 0; j < N; j++)
            sum[j] += v[j];
    }
    store<N>(static_cast<T *>(p.y) + at.row * p.width + at.column, sum);
}

void cuda_unpermute(struct stream *s, const struct unpermute *p)
{
    RUN(run_tiles, unpermute_tile, s, p, packed(p->type, {p->x, p->y}, {p->width, p->ldx}), p->tokens,
        p->width);
}

/* The segment that row r is in: the last that begins at or before it. */
__device__ int64_t segment_of(const struct regroup &p, int64_t r)
{
    int64_t lo = 0, hi = p.segments - 1;
    while (lo < hi) {
        int64_t mid = (lo + hi + 1) / 2;
        if (p.to[mid] <= r)
            lo = mid;
        else
            hi = mid - 1;
    }
    return lo;
}

template <class T, int N> __global__ void regroup_tile(struct regroup p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= counted(p.rows, &p.to[p.segments]))
        return;
    int64_t i = segment_of(p, at.row), w = p.from[i] + at.row - p.to[i] + (fault("regroup-offset") && i > 0);
    if (at.column == 0 && p.weight && p.back)
        p.wire_weight[w * p.ldw] = p.weight[at.row];
    else if (at.column == 0 && p.weight)
        p.weight[at.row] = p.wire_weight[w * p.ldw];
    if (at.column >= p.width)
        return;
    T *grouped = static_cast<T *>(p.grouped) + at.row * p.width + at.column;
    T *wire = static_cast<T *>(p.wire) + w * p.ld + at.column;
    float v[N];
    load<N>(v, p.back ? grouped : wire);
    store<N>(p.back ? wire : grouped, v);
}

void cuda_regroup(struct stream *s, const struct regroup *p)
{
    if (p->segments > 0)
        RUN(run_tiles, regroup_tile, s, p, packed(p->type, {p->grouped, p->wire}, {p->width, p->ld}), p->rows,
            p->width);
}

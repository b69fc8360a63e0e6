/* SPDX-License-Identifier: MIT */
/* RMSNorm. A line of threads has a row of one head (rows.h) and reads it twice, the second time from the
 * caches.
 * Derivations are in ref/norm.c. */
#include "rows.h"

/* Row and head of the line: line l is head l % heads of row l / heads. */
struct head_row {
    int64_t row, head;
};
__device__ __forceinline__ struct head_row head_row_of(int64_t line, int64_t heads)
{
    return {line / heads, line % heads};
}

__device__ __forceinline__ float clamped(float x, float limit) /* a NaN passes */
{
    return x > limit ? limit : x < -limit ? -limit : x;
}

/* dy, or 0 where the clamp cut. */
__device__ __forceinline__ float through_clip(float dy, float xhat, float w, float clip)
{
    return clip > 0 && fabsf(xhat * w) >= clip ? 0 : dy;
}

/* The thread's part of Σ x². */
template <class T, int N> __device__ float squares(const T *x, int64_t width)
{
    float sum = 0, v[N];
    for (int64_t c = threadIdx.x * N; c < width; c += blockDim.x * N) {
        load<N>(v, x + c);
        for (int j = 0; j < N; j++)
            sum += v[j] * v[j];
    }
    return sum;
}

/* The thread's part of Σ dy·w·x, dy counting as 0 where the clip cut. */
template <class T, int N>
__device__ float clipped_dot(const T *x, const T *w, const T *dy, int64_t width, float rstd, float clip)
{
    float sum = 0, v[N], by[N], d[N];
    for (int64_t c = threadIdx.x * N; c < width; c += blockDim.x * N) {
        load<N>(v, x + c);
        load<N>(by, w + c);
        load<N>(d, dy + c);
        for (int j = 0; j < N; j++)
            sum += through_clip(d[j], v[j] * rstd, by[j], clip) * by[j] * v[j];
    }
    return sum;
}

__device__ __forceinline__ float rstd_of(float sumsq, int64_t width, float eps)
{
    return 1 / sqrtf(sumsq / static_cast<float>(width) + eps);
}

template <class T, int N> __global__ void rmsnorm_line(struct rmsnorm p)
{
    int64_t line = line_row();
    struct head_row at = head_row_of(line, p.heads);
    bool mine = line < p.rows * p.heads;
    const T *x = static_cast<const T *>(p.x) + at.row * p.ldx + at.head * p.width;
    T *y = static_cast<T *>(p.y) + at.row * p.ldy + at.head * p.width;
    float sumsq = p.sumsq ? mine ? p.sumsq[at.row] : 0 : line_sum(mine ? squares<T, N>(x, p.width) : 0);
    float rstd = rstd_of(sumsq, p.sumsq ? p.full_width : p.width, p.eps), v[N], w[N];
    for (int64_t c = threadIdx.x * N; mine && c < p.width; c += blockDim.x * N) {
        load<N>(v, x + c);
        load<N>(w, static_cast<const T *>(p.w) + c);
        for (int j = 0; j < N; j++) {
            v[j] = v[j] * rstd * w[j];
            v[j] = p.clip > 0 ? clamped(v[j], p.clip) : v[j];
        }
        store<N>(y + c, v);
    }
}

void cuda_rmsnorm(struct stream *s, const struct rmsnorm *p)
{
    RUN(run_lines, rmsnorm_line, s, p, packed(p->type, {p->x, p->w, p->y}, {p->width, p->ldx, p->ldy}),
        p->rows * p->heads, p->width);
}

/* dx of a row, and what it adds to dw, which is kept by this thread's columns in dw[width]. */
template <class T, int N>
__device__ void row_gradient(const struct rmsnorm_backward &p, struct head_row at, float rstd, float shrink,
                             float *dw)
{
    const T *x = static_cast<const T *>(p.x) + at.row * p.ldx + at.head * p.width;
    const T *dy = static_cast<const T *>(p.dy) + at.row * p.lddy + at.head * p.width;
    T *dx = static_cast<T *>(p.dx) + at.row * p.lddx + at.head * p.width;
    float v[N], w[N], d[N], to[N] = {};
    for (int64_t c = threadIdx.x * N; c < p.width; c += blockDim.x * N) {
        load<N>(v, x + c);
        load<N>(w, static_cast<const T *>(p.w) + c);
        load<N>(d, dy + c);
        if (p.accumulate)
            load<N>(to, dx + c);
        for (int j = 0; j < N; j++) {
            float g = through_clip(d[j], v[j] * rstd, w[j], p.clip);
            dw[c + j] += g * v[j] * rstd;
            to[j] = (p.accumulate ? to[j] : 0) + g * w[j] * rstd - v[j] * shrink;
        }
        store<N>(dx + c, to);
    }
}

/* Block b has lines b·y + threadIdx.y, then as many further as the grid has, and so on; a line keeps its sums
 * of dw in shared memory ([lines of the block][width] floats), and the block's, in the order of its lines,
 * go to part[b][width]. */
template <class T, int N> __global__ void rmsnorm_backward_line(struct rmsnorm_backward p, float *part)
{
    SHARED_DYNAMIC(float, dw);
    float *own = dw + threadIdx.y * p.width;
    int64_t lines = p.rows * p.heads, step = static_cast<int64_t>(gridDim.x) * blockDim.y;
    for (int64_t c = threadIdx.x * N; c < p.width; c += blockDim.x * N)
        for (int j = 0; j < N; j++)
            own[c + j] = 0;
    for (int64_t first = static_cast<int64_t>(blockIdx.x) * blockDim.y; first < lines; first += step) {
        int64_t line = first + threadIdx.y;
        struct head_row at = head_row_of(line, p.heads);
        bool mine = line < lines;
        const T *x = static_cast<const T *>(p.x) + at.row * p.ldx + at.head * p.width;
        const T *dy = static_cast<const T *>(p.dy) + at.row * p.lddy + at.head * p.width;
        int64_t full = p.sumsq ? p.full_width : p.width;
        float sumsq = p.sumsq ? mine ? p.sumsq[at.row] : 0 : line_sum(mine ? squares<T, N>(x, p.width) : 0);
        float rstd = rstd_of(sumsq, full, p.eps), dot = 0;
        if (p.sumsq)
            dot = mine ? p.dot[at.row] : 0;
        else
            dot = line_sum(mine ? clipped_dot<T, N>(x, static_cast<const T *>(p.w), dy, p.width, rstd, p.clip)
                                : 0);
        if (mine)
            row_gradient<T, N>(p, at, rstd, dot * rstd * rstd * rstd / static_cast<float>(full), own);
    }
    if (!fault("norm-barrier"))
        __syncthreads();
    for (int64_t c = threadIdx.y * blockDim.x + threadIdx.x; c < p.width; c += blockDim.x * blockDim.y) {
        float sum = 0;
        for (unsigned i = 0; i < blockDim.y; i++)
            sum += dw[i * p.width + c];
        part[blockIdx.x * p.width + c] = sum;
    }
}

template <int N>
static void run_backward(struct stream *s, void (*kernel)(struct rmsnorm_backward, float *), int64_t rows,
                         int64_t width, const struct rmsnorm_backward *p)
{
    struct lines l = lines_over(rows, width, N);
    int64_t parts = column_parts(rows, width);
    float *part = cuda_scratch_of<float>(s, parts * width);
    if (!part)
        return;
    l.grid = dim3(static_cast<unsigned>(parts));
    launch(kernel, l.grid, l.block, static_cast<size_t>(l.block.y * width) * sizeof(float), s->cuda, *p, part);
    cuda_add_parts(s, part, parts, width, p->dw);
}

void cuda_rmsnorm_backward(struct stream *s, const struct rmsnorm_backward *p)
{
    bool pack = packed(p->type, {p->x, p->w, p->dy, p->dx}, {p->width, p->ldx, p->lddy, p->lddx});
    RUN(run_backward, rmsnorm_backward_line, s, p, pack, p->rows * p->heads, p->width);
}

template <class T, int N> __global__ void row_sums_line(struct row_sums p)
{
    int64_t r = line_row();
    bool mine = r < p.rows;
    const T *x = static_cast<const T *>(p.x) + r * p.ldx;
    if (p.sumsq) {
        float sum = line_sum(mine ? squares<T, N>(x, p.width) : 0);
        if (mine && threadIdx.x == 0)
            p.sumsq[r] = sum;
    }
    if (!p.dot)
        return;
    float rstd = p.clip > 0 && mine ? rstd_of(p.sumsq_in[r], p.full_width, p.eps) : 0;
    const T *w = static_cast<const T *>(p.w), *dy = static_cast<const T *>(p.dy) + r * p.lddy;
    float dot = line_sum(mine ? clipped_dot<T, N>(x, w, dy, p.width, rstd, p.clip) : 0);
    if (mine && threadIdx.x == 0)
        p.dot[r] = dot;
}

void cuda_row_sums(struct stream *s, const struct row_sums *p)
{
    bool pack = packed(p->type, {p->x, p->w, p->dy}, {p->width, p->ldx, p->dot ? p->lddy : 0});
    RUN(run_lines, row_sums_line, s, p, pack, p->rows, p->width);
}

/* SPDX-License-Identifier: MIT */
/* What treats each element by itself, but for swiglu_backward, row_gate_backward and bias_backward, which
 * sum. Launches are the tiles and lines of rows.h; derivations are in ref/elementwise.c. */
#include "rows.h"

/* ---- sums of tensors, and copies; what has no rows is one ---- */

/* -0: added to it all is as it was, a -0 too. */
template <int N> __device__ void begin_sums(float *sum)
{
    for (int j = 0; j < N; j++)
        sum[j] = -0.0F;
}

template <class T, int N> __global__ void add_tile(struct add p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row > 0 || (at.column >= p.count && !fault("add-tail")))
        return;
    float sum[N], v[N];
    const T *a = static_cast<const T *>(p.a), *b = static_cast<const T *>(p.b);
    begin_sums<N>(sum);
    if (a && p.before == 0)
        load<N>(sum, a + at.column);
    for (int part = 0; part < (p.parts > 0 ? p.parts : 1); part++) {
        load<N>(v, b + part * p.count + at.column);
        for (int j = 0; j < N; j++)
            sum[j] += v[j];
        if (!a || part + 1 != p.before)
            continue;
        load<N>(v, a + at.column);
        for (int j = 0; j < N; j++)
            sum[j] += v[j];
    }
    store<N>(static_cast<T *>(p.y) + at.column, sum);
}

void cuda_add(struct stream *s, const struct add *p)
{
    RUN(run_tiles, add_tile, s, p, packed(p->type, {p->a, p->b, p->y}, {p->count}), 1, p->count);
}

template <class T, int N> __global__ void sum_rows_tile(struct sum_rows p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    float sum[N], v[N];
    begin_sums<N>(sum);
    for (int part = 0; part < p.parts; part++) {
        load<N>(v, static_cast<const T *>(p.x) + part * p.stride + at.row * p.ldx + at.column);
        for (int j = 0; j < N; j++)
            sum[j] += v[j];
    }
    store<N>(static_cast<T *>(p.y) + at.row * p.ldy + at.column, sum);
}

void cuda_sum_rows(struct stream *s, const struct sum_rows *p)
{
    RUN(run_tiles, sum_rows_tile, s, p, packed(p->type, {p->x, p->y}, {p->width, p->stride, p->ldx, p->ldy}),
        p->rows, p->width);
}

template <class T, int N> __global__ void copy_rows_tile(struct copy_rows p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    float v[N]; /* bf16 to f32 and back is exact */
    load<N>(v, static_cast<const T *>(p.x) + at.row * p.ldx + at.column);
    store<N>(static_cast<T *>(p.y) + at.row * p.ldy + at.column, v);
}

void cuda_copy_rows(struct stream *s, const struct copy_rows *p)
{
    RUN(run_tiles, copy_rows_tile, s, p, packed(p->type, {p->x, p->y}, {p->width, p->ldx, p->ldy}), p->rows,
        p->width);
}

template <class From, class To, int N> __global__ void convert_tile(struct convert p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row > 0 || at.column >= p.count)
        return;
    float v[N];
    load<N>(v, static_cast<const From *>(p.x) + at.column);
    for (int j = 0; j < N; j++)
        v[j] *= p.scale;
    store<N>(static_cast<To *>(p.y) + at.column, v);
}

template <class From, class To> static void convert(struct stream *s, const struct convert *p)
{
    if (packed(BF16, {p->x, p->y}, {p->count}))
        run_tiles<PACK<bf16>>(s, convert_tile<From, To, PACK<bf16>>, 1, p->count, p);
    else
        run_tiles<1>(s, convert_tile<From, To, 1>, 1, p->count, p);
}

void cuda_convert(struct stream *s, const struct convert *p)
{
    if (p->from == F32 && p->to == F32)
        convert<float, float>(s, p);
    else if (p->from == F32)
        convert<float, bf16>(s, p);
    else if (p->to == F32)
        convert<bf16, float>(s, p);
    else
        convert<bf16, bf16>(s, p);
}

/* ---- bias and clamp ---- */

template <class T, int N> __global__ void bias_tile(struct bias p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    T *x = static_cast<T *>(p.x) + at.row * p.ldx + at.column;
    float v[N], b[N];
    load<N>(v, x);
    load<N>(b, static_cast<const T *>(p.bias) + at.column);
    for (int j = 0; j < N; j++)
        v[j] += b[j];
    store<N>(x, v);
}

void cuda_bias(struct stream *s, const struct bias *p)
{
    RUN(run_tiles, bias_tile, s, p, packed(p->type, {p->x, p->bias}, {p->width, p->ldx}), p->rows, p->width);
}

/* Written so that a NaN passes. */
template <class T, int N> __global__ void clamp_tile(struct clamp p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    T *x = static_cast<T *>(p.x) + at.row * p.ldx + at.column;
    float v[N];
    load<N>(v, x);
    for (int j = 0; j < N; j++)
        v[j] = v[j] > p.limit ? p.limit : v[j] < -p.limit ? -p.limit : v[j];
    store<N>(x, v);
}

void cuda_clamp(struct stream *s, const struct clamp *p)
{
    RUN(run_tiles, clamp_tile, s, p, packed(p->type, {p->x}, {p->width, p->ldx}), p->rows, p->width);
}

template <class T, int N> __global__ void clamp_backward_tile(struct clamp_backward p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    T *dx = static_cast<T *>(p.dx) + at.row * p.lddx + at.column;
    float x[N], d[N];
    load<N>(x, static_cast<const T *>(p.x) + at.row * p.ldx + at.column);
    load<N>(d, dx);
    for (int j = 0; j < N; j++)
        d[j] = fabsf(x[j]) >= p.limit ? 0 : d[j];
    store<N>(dx, d);
}

void cuda_clamp_backward(struct stream *s, const struct clamp_backward *p)
{
    RUN(run_tiles, clamp_backward_tile, s, p, packed(p->type, {p->x, p->dx}, {p->width, p->ldx, p->lddx}),
        p->rows, p->width);
}

/* ---- sums over rows ---- */

/* A block has 32 columns and a part of the rows; its 8 lines take every eighth, and their sums meet in order.
 * Grid: tiles of columns, parts. */
template <class T> __global__ void column_sums(const T *x, int64_t ld, int64_t rows, int64_t width, float *part)
{
    constexpr int LINES = BLOCK_THREADS / WARP_THREADS;
    SHARED(float, of_line, BLOCK_THREADS);
    int64_t c = static_cast<int64_t>(blockIdx.x) * WARP_THREADS + threadIdx.x;
    int64_t first = rows * blockIdx.y / gridDim.y, last = rows * (blockIdx.y + 1) / gridDim.y;
    float sum = 0;
    for (int64_t r = first + threadIdx.y; r < last && c < width; r += LINES)
        sum += number(x[r * ld + c]);
    of_line[threadIdx.y * WARP_THREADS + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= width)
        return;
    for (int i = 1; i < LINES; i++)
        sum += of_line[i * WARP_THREADS + threadIdx.x];
    part[blockIdx.y * width + c] = sum;
}

/* As column_sums, of the parts, with 32 lines. Grid: tiles of columns. */
__global__ void __launch_bounds__(WARP_THREADS *WARP_THREADS)
    add_parts(const float *part, int64_t parts, int64_t width, float *dst)
{
    SHARED(float, of_line, WARP_THREADS *WARP_THREADS);
    int64_t c = static_cast<int64_t>(blockIdx.x) * WARP_THREADS + threadIdx.x;
    float sum = 0;
    for (int64_t i = threadIdx.y; i < parts && c < width; i += WARP_THREADS)
        sum += part[i * width + c];
    of_line[threadIdx.y * WARP_THREADS + threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= width)
        return;
    for (int i = 1; i < WARP_THREADS; i++)
        sum += of_line[i * WARP_THREADS + threadIdx.x];
    dst[c] += sum;
}

void cuda_add_parts(struct stream *s, const float *part, int64_t parts, int64_t width, float *dst)
{
    if (parts > 0)
        launch(add_parts, dim3(static_cast<unsigned>(ceil_quotient(width, WARP_THREADS))),
               dim3(WARP_THREADS, WARP_THREADS), 0, s->cuda, part, parts, width, dst);
}

void cuda_bias_backward(struct stream *s, const struct bias_backward *p)
{
    int64_t parts = column_parts(p->rows, p->width);
    dim3 grid(static_cast<unsigned>(ceil_quotient(p->width, WARP_THREADS)), static_cast<unsigned>(parts));
    dim3 block(WARP_THREADS, BLOCK_THREADS / WARP_THREADS);
    float *part = cuda_scratch_of<float>(s, parts * p->width);
    if (!part)
        return;
    if (p->type == F32)
        launch(column_sums<float>, grid, block, 0, s->cuda, static_cast<const float *>(p->dy), p->lddy, p->rows,
               p->width, part);
    else
        launch(column_sums<bf16>, grid, block, 0, s->cuda, static_cast<const bf16 *>(p->dy), p->lddy, p->rows,
               p->width, part);
    cuda_add_parts(s, part, parts, p->width, p->d_bias);
}

/* ---- gates ---- */

__device__ __forceinline__ float sigmoid(float x)
{
    return 1 / (1 + expf(-x));
}

template <class T, int N> __global__ void row_gate_tile(struct row_gate p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    float v[N], gate = sigmoid(p.g[at.row]);
    load<N>(v, static_cast<const T *>(p.x) + at.row * p.width + at.column);
    for (int j = 0; j < N; j++)
        v[j] *= gate;
    store<N>(static_cast<T *>(p.y) + at.row * p.width + at.column, v);
}

void cuda_row_gate(struct stream *s, const struct row_gate *p)
{
    RUN(run_tiles, row_gate_tile, s, p, packed(p->type, {p->x, p->y}, {p->width}), p->rows, p->width);
}

template <class T, int N> __global__ void row_gate_backward_line(struct row_gate_backward p)
{
    int64_t r = line_row();
    float sum = 0, gate = r < p.rows ? sigmoid(p.g[r]) : 0;
    for (int64_t c = threadIdx.x * N; r < p.rows && c < p.width; c += blockDim.x * N) {
        float x[N], dy[N];
        load<N>(x, static_cast<const T *>(p.x) + r * p.width + c);
        load<N>(dy, static_cast<const T *>(p.dy) + r * p.width + c);
        for (int j = 0; j < N; j++) {
            sum += dy[j] * x[j];
            dy[j] *= gate;
        }
        store<N>(static_cast<T *>(p.dx) + r * p.width + c, dy);
    }
    sum = line_sum(sum);
    if (r < p.rows && threadIdx.x == 0)
        p.dg[r] = gate * (1 - gate) * sum;
}

void cuda_row_gate_backward(struct stream *s, const struct row_gate_backward *p)
{
    RUN(run_lines, row_gate_backward_line, s, p, packed(p->type, {p->x, p->dy, p->dx}, {p->width}), p->rows,
        p->width);
}

template <class T, int N> __global__ void swiglu_tile(struct swiglu p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row >= counted(p.rows, p.count) || at.column >= p.width)
        return;
    const T *in = static_cast<const T *>(p.gate_up) + at.row * 2 * p.width + at.column;
    float gate[N], up[N], weight = p.weight ? p.weight[at.row] : 1;
    load<N>(gate, in);
    load<N>(up, in + p.width);
    for (int j = 0; j < N; j++)
        gate[j] *= weight * sigmoid(gate[j]) * up[j];
    store<N>(static_cast<T *>(p.y) + at.row * p.width + at.column, gate);
}

void cuda_swiglu(struct stream *s, const struct swiglu *p)
{
    RUN(run_tiles, swiglu_tile, s, p, packed(p->type, {p->gate_up, p->y}, {p->width}), p->rows, p->width);
}

template <class T, int N> __global__ void swiglu_backward_line(struct swiglu_backward p)
{
    int64_t r = line_row(), rows = counted(p.rows, p.count);
    float d_weight = 0, weight = p.weight && r < rows ? p.weight[r] : 1;
    for (int64_t c = threadIdx.x * N; r < rows && c < p.width; c += blockDim.x * N) {
        int64_t i = r * 2 * p.width + c;
        float gate[N], up[N], dy[N];
        load<N>(gate, static_cast<const T *>(p.gate_up) + i);
        load<N>(up, static_cast<const T *>(p.gate_up) + i + p.width);
        load<N>(dy, static_cast<const T *>(p.dy) + r * p.width + c);
        for (int j = 0; j < N; j++) {
            float g = gate[j], u = up[j], sig = sigmoid(g);
            d_weight += dy[j] * g * sig * u;
            gate[j] = weight * dy[j] * u * sig * (1 + g * (1 - sig));
            up[j] = weight * dy[j] * g * sig;
        }
        store<N>(static_cast<T *>(p.d_gate_up) + i, gate);
        store<N>(static_cast<T *>(p.d_gate_up) + i + p.width, up);
    }
    if (!p.d_weight)
        return;
    d_weight = line_sum(d_weight);
    if (r < rows && threadIdx.x == 0)
        p.d_weight[r] = d_weight;
}

void cuda_swiglu_backward(struct stream *s, const struct swiglu_backward *p)
{
    RUN(run_lines, swiglu_backward_line, s, p, packed(p->type, {p->gate_up, p->dy, p->d_gate_up}, {p->width}),
        p->rows, p->width);
}

/* ---- rotary embedding ---- */

/* Columns are the pairs of all heads, heads · rotary/2. */
template <class T, int N> __global__ void rope_tile(struct rope p, unsigned across)
{
    struct place at = place_in<N>(across);
    int half = static_cast<int>(p.rotary / 2), heads = static_cast<int>(p.heads);
    if (at.row >= p.rows || at.column >= static_cast<int64_t>(heads) * half)
        return;
    int head = static_cast<int>(at.column) / half, i = static_cast<int>(at.column) % half;
    T *x = static_cast<T *>(p.x) + at.row * p.ld + head * p.head_dim + i;
    const float *angle = p.cos_sin + at.row % p.seq * p.rotary + i;
    float a[N], b[N];
    load<N>(a, x);
    load<N>(b, x + half);
    for (int j = 0; j < N; j++) {
        float cosine = angle[j], sine = p.inverse ? -angle[half + j] : angle[half + j], low = a[j];
        a[j] = low * cosine - b[j] * sine;
        b[j] = b[j] * cosine + low * sine;
    }
    store<N>(x, a);
    store<N>(x + half, b);
}

void cuda_rope(struct stream *s, const struct rope *p)
{
    int64_t half = p->rotary / 2;
    RUN(run_tiles, rope_tile, s, p, packed(p->type, {p->x}, {half, p->head_dim, p->ld}), p->rows,
        p->heads * half);
}

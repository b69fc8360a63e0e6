/* SPDX-License-Identifier: MIT */
/* Totals, and what applies gradients. Compiled without contraction of a·b + c: AdamW has the bits of the
 * reference. */
#include <math.h>

#include "rows.h"

/* ---- totals ---- */

/* Numbers are added up by so many blocks at most, each a piece of them, and their sums by one. */
constexpr int TOTAL_PIECES = 1024;

/* Over the threads of a block of BLOCK_THREADS, in all of them; once a kernel. */
__device__ double block_sum(double v)
{
    SHARED(double, of_thread, BLOCK_THREADS);
    of_thread[threadIdx.x] = v;
    for (int distance = BLOCK_THREADS / 2; distance > 0; distance /= 2) {
        if (!fault("total-barrier"))
            __syncthreads();
        if (static_cast<int>(threadIdx.x) < distance)
            of_thread[threadIdx.x] += of_thread[threadIdx.x + distance];
    }
    __syncthreads();
    return of_thread[0];
}

/* Block b of B has the packs [packs·b/B, packs·(b+1)/B). */
template <int N> __global__ void total_piece(struct total p, double *part)
{
    int64_t all = p.count / N, first = all * blockIdx.x / gridDim.x, last = all * (blockIdx.x + 1) / gridDim.x;
    double sum = 0;
    float x[N], y[N];
    for (int64_t i = first + threadIdx.x; i < last; i += blockDim.x) {
        load<N>(x, p.x + i * N);
        if (p.y)
            load<N>(y, p.y + i * N);
        for (int j = 0; j < N; j++)
            sum += p.y ? static_cast<double>(x[j]) * y[j] : x[j];
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

__global__ void total_end(const double *part, int pieces, double scale, double *out)
{
    double sum = 0;
    for (int i = threadIdx.x; i < pieces; i += blockDim.x)
        sum += part[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        *out += scale * sum;
}

void cuda_total(struct stream *s, const struct total *p)
{
    double *part = cuda_scratch_of<double>(s, TOTAL_PIECES);
    if (!part || p->count == 0)
        return;
    int64_t wanted = ceil_quotient(p->count, PACK<float> * BLOCK_THREADS); /* of the count alone */
    int pieces = static_cast<int>(wanted < TOTAL_PIECES ? wanted : TOTAL_PIECES);
    launch(packed(F32, {p->x, p->y}, {p->count}) ? total_piece<PACK<float>> : total_piece<1>,
           dim3(static_cast<unsigned>(pieces)), dim3(BLOCK_THREADS), 0, s->cuda, *p, part);
    launch(total_end, dim3(1), dim3(BLOCK_THREADS), 0, s->cuda, part, pieces, p->scale, p->out);
}

/* A thread each. */
__global__ void add_f64_parts(struct add_f64 p)
{
    int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= p.count)
        return;
    double sum = p.y[i];
    for (int part = 0; part < p.parts; part++)
        sum += p.b[part * p.count + i];
    p.y[i] = sum;
}

void cuda_add_f64(struct stream *s, const struct add_f64 *p)
{
    launch(add_f64_parts, dim3(static_cast<unsigned>(ceil_quotient(p->count, BLOCK_THREADS))),
           dim3(BLOCK_THREADS), 0, s->cuda, *p);
}

/* ---- scale, clip, AdamW: one row of elements ---- */

template <int N> __global__ void scale_tile(struct scale p, unsigned across)
{
    struct place at = place_in<N>(across);
    if (at.row > 0 || at.column >= p.count)
        return;
    float v[N];
    load<N>(v, p.x + at.column);
    for (int j = 0; j < N; j++)
        v[j] *= p.scale;
    store<N>(p.x + at.column, v);
}

void cuda_scale(struct stream *s, const struct scale *p)
{
    if (packed(F32, {p->x}, {p->count}))
        run_tiles<PACK<float>>(s, scale_tile<PACK<float>>, 1, p->count, p);
    else
        run_tiles<1>(s, scale_tile<1>, 1, p->count, p);
}

/* One thread. */
__global__ void clip_norm(struct clip p)
{
    double norm = sqrt(*p.square);
    p.update->grad_scale = p.limit > 0 ? static_cast<float>(fmin(1.0, p.limit / (norm + 1e-6))) : 1;
    p.update->skip = !(isfinite(norm) && isfinite(*p.loss));
}

void cuda_clip(struct stream *s, const struct clip *p)
{
    launch(clip_norm, dim3(1), dim3(1), 0, s->cuda, *p);
}

template <class T, int N> __global__ void adamw_tile(struct adamw p, unsigned across)
{
    struct place at = place_in<N>(across);
    struct update u = *p.update;
    if (at.row > 0 || at.column >= p.count || u.skip)
        return;
    float w[N], m[N], v[N], g[N], step = u.lr / u.correction1;
    load<N>(w, p.master + at.column);
    load<N>(m, p.m + at.column);
    load<N>(v, p.v + at.column);
    load<N>(g, p.grad + at.column);
    for (int j = 0; j < N; j++) {
        g[j] *= u.grad_scale;
        w[j] -= u.lr * p.decay * w[j];
        m[j] = p.beta1 * m[j] + (1 - p.beta1) * g[j];
        v[j] = p.beta2 * v[j] + (1 - p.beta2) * (g[j] * g[j]);
        w[j] -= step * m[j] / (sqrtf(v[j] / u.correction2) + p.eps);
    }
    store<N>(p.master + at.column, w);
    store<N>(p.m + at.column, m);
    store<N>(p.v + at.column, v);
    if (p.param)
        store<N>(static_cast<T *>(p.param) + at.column, w);
}

void cuda_adamw(struct stream *s, const struct adamw *p)
{
    bool pack = packed(p->type, {p->master, p->m, p->v, p->grad, p->param}, {p->count});
    RUN(run_tiles, adamw_tile, s, p, pack, 1, p->count);
}

/* A block a layer. The mean is summed in order by one thread: an expert whose load is the mean exactly stays
 * where it is, so all must agree on its bits. */
__global__ void balance_layer(struct balance p)
{
    SHARED(double, mean, 1);
    if (p.update->skip)
        return;
    const float *load = p.loads + blockIdx.x * p.experts;
    if (threadIdx.x == 0) {
        double sum = 0;
        for (int64_t e = 0; e < p.experts; e++)
            sum += load[e] / static_cast<double>(p.experts);
        mean[0] = sum;
    }
    __syncthreads();
    for (int64_t e = threadIdx.x; e < p.experts; e += blockDim.x)
        p.bias[blockIdx.x * p.experts + e] +=
            static_cast<float>(p.rate * ((mean[0] > load[e]) - (mean[0] < load[e])));
}

void cuda_balance(struct stream *s, const struct balance *p)
{
    launch(balance_layer, dim3(static_cast<unsigned>(p->layers)), dim3(BLOCK_THREADS), 0, s->cuda, *p);
}

/* ---- initial weights: kernels/random.c on the device ---- */

/* Philox-4x32-10: four random words for one counter. */
__device__ void philox(uint64_t seed, uint64_t counter, uint32_t word[4])
{
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9, k1 += 0xBB67AE85) {
        uint64_t a = static_cast<uint64_t>(0xD2511F53) * c0, b = static_cast<uint64_t>(0xCD9E8D57) * c2;
        c0 = static_cast<uint32_t>(b >> 32) ^ c1 ^ k0;
        c1 = static_cast<uint32_t>(b);
        c2 = static_cast<uint32_t>(a >> 32) ^ c3 ^ k1;
        c3 = static_cast<uint32_t>(a);
    }
    word[0] = c0, word[1] = c1, word[2] = c2, word[3] = c3;
}

/* Number i of the seed, by Box-Muller: of each block of four the even ones are cosines, the odd ones sines. */
__device__ double normal(uint64_t seed, uint64_t i)
{
    uint32_t word[4];
    philox(seed, i / 4, word);
    uint32_t size = i % 4 < 2 ? word[0] : word[2], turn = i % 4 < 2 ? word[1] : word[3];
    double radius = sqrt(-2 * log((size + 0.5) * 0x1p-32)), angle = 2 * M_PI * 0x1p-32 * turn;
    return radius * (i % 2 ? sin(angle) : cos(angle));
}

template <class T> __global__ void fill_tile(struct fill_normal p, unsigned across)
{
    struct place at = place_in<1>(across);
    if (at.row >= p.rows || at.column >= p.width)
        return;
    double v = p.mean;
    if (p.std != 0)
        v += p.std * normal(p.seed, static_cast<uint64_t>(p.first + at.row * p.stride + at.column));
    put(static_cast<T *>(p.x) + at.row * p.ldx + at.column, static_cast<float>(v));
}

void cuda_fill_normal(struct stream *s, const struct fill_normal *p)
{
    if (p->type == F32)
        run_tiles<1>(s, fill_tile<float>, p->rows, p->width, p);
    else
        run_tiles<1>(s, fill_tile<bf16>, p->rows, p->width, p);
}

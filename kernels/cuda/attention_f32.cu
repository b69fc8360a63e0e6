/* SPDX-License-Identifier: MIT */
/* Attention in f32, forward and backward, by multiply-adds: what bf16 is compared with, right before fast.
 *
 * A block is 256 threads with 32 rows of queries (or of keys, for dk and dv), 8 threads a row; the rows of
 * the other kind walk past in tiles of 32. A thread has 4 scores of its row, in columns t, t + 8, t + 16 and
 * t + 24, and of the row's sums the columns t, t + 8 and so on, where t = thread % 8. Weights go from the
 * first to the second through shared memory.
 *
 * Shared memory: tiles of 32 · (dim + 1 or 2, odd, so that threads of a warp read different banks) floats,
 * three of them forward and four backward, and weights of 32 · 33 (twice for dk and dv): at dim 256 100 KiB
 * forward, 137 KiB backward. What limits it: a read of shared memory for each multiply-add. */
#include "attention.h"

constexpr int SIDE = 32, LANES = 8, WEIGHTS_LD = SIDE + 1, OWN = SIDE / LANES;

/* What a block works on, and where its threads are. */
struct f32_place {
    int row, t;  /* the thread's */
    int dim, ld; /* of tiles */
};

__device__ __forceinline__ struct f32_place f32_place_of(const struct attention &p)
{
    int thread = static_cast<int>(threadIdx.x), dim = static_cast<int>(p.dim);
    return {thread / LANES, thread % LANES, dim, dim | 1};
}

/* Floats of a tile. */
__host__ __device__ static inline int f32_tile(int64_t dim)
{
    return SIDE * (static_cast<int>(dim) | 1);
}

/* A tile of 32 rows of dim columns, those from `rows` on 0. */
__device__ void fetch_tile_f32(float *tile, const float *p, int64_t ld, int rows, const struct f32_place &at)
{
    for (int i = static_cast<int>(threadIdx.x); i < SIDE * at.dim; i += SIDE * LANES) {
        int row = i / at.dim, column = i % at.dim;
        tile[row * at.ld + column] = row < rows ? p[row * ld + column] : 0;
    }
}

/* The thread's scores of its row of a. */
__device__ void dots_f32(float s[OWN], const float *a, const float *b, const struct f32_place &at)
{
    for (int i = 0; i < OWN; i++)
        s[i] = 0;
    for (int c = 0; c < at.dim; c++)
        for (int i = 0; i < OWN; i++)
            s[i] += a[at.row * at.ld + c] * b[(at.t + LANES * i) * at.ld + c];
}

/* sum += the row's weights times rows of b. */
template <int D>
__device__ void add_rows_f32(float sum[D / LANES], const float *weights, const float *b,
                             const struct f32_place &at)
{
    for (int j = 0; j < SIDE; j++) {
        float w = weights[at.row * WEIGHTS_LD + j];
        for (int i = 0; i < D / LANES; i++)
            if (at.t + LANES * i < at.dim)
                sum[i] += w * b[j * at.ld + at.t + LANES * i];
    }
}

template <int D>
__device__ void put_row_f32(float *to, const float sum[D / LANES], float by, const struct f32_place &at)
{
    for (int i = 0; i < D / LANES; i++)
        if (at.t + LANES * i < at.dim)
            to[at.t + LANES * i] = sum[i] * by;
}

/* Over the 8 threads of a row, in all of them. */
template <class F> __device__ float row_fold_f32(float v, F fold)
{
    for (int distance = LANES / 2; distance > 0; distance /= 2)
        v = fold(v, __shfl_xor_sync(ALL_LANES, v, distance));
    return v;
}

/* blockIdx.x: sequence and head; blockIdx.y: queries, from the last to the first. */
template <int D> __global__ void __launch_bounds__(SIDE *LANES) attention_forward_f32(struct attention p)
{
    SHARED_DYNAMIC(float, q_tile);
    int size = f32_tile(p.dim);
    float *k_tile = q_tile + size, *v_tile = k_tile + size, *weights = v_tile + size;
    struct f32_place at = f32_place_of(p);
    int64_t head = blockIdx.x % p.heads, base = blockIdx.x / p.heads * p.seq;
    int64_t query = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * SIDE, row = base + query;
    int64_t kv = head / (p.heads / p.kv_heads) * p.dim, mine = query + at.row;
    fetch_tile_f32(q_tile, static_cast<const float *>(p.q) + row * p.ldq + head * p.dim, p.ldq,
                   left_of(p.seq, query), at);
    float largest = -INFINITY, total = 0, o[D / LANES] = {};
    for (int64_t key = 0; key < query + SIDE; key += SIDE) {
        float s[OWN];
        __syncthreads(); /* the tiles before are read */
        fetch_tile_f32(k_tile, static_cast<const float *>(p.k) + (base + key) * p.ldk + kv, p.ldk,
                       left_of(p.seq, key), at);
        fetch_tile_f32(v_tile, static_cast<const float *>(p.v) + (base + key) * p.ldv + kv, p.ldv,
                       left_of(p.seq, key), at);
        __syncthreads();
        dots_f32(s, q_tile, k_tile, at);
        float most = largest, sum = 0;
        for (int i = 0; i < OWN; i++) {
            s[i] = key + at.t + LANES * i > mine ? -INFINITY : s[i] * p.scale;
            most = fmaxf(most, s[i]);
        }
        most = row_fold_f32(most, greater());
        for (int i = 0; i < OWN; i++) {
            float w = expf(s[i] - most);
            weights[at.row * WEIGHTS_LD + at.t + LANES * i] = w;
            sum += w;
        }
        float fade = expf(largest - most);
        largest = most;
        total = total * fade + row_fold_f32(sum, plus());
        for (int i = 0; i < D / LANES; i++)
            o[i] *= fade;
        if (!fault("attention-f32-warp"))
            __syncwarp(); /* a row's weights are of one warp */
        add_rows_f32<D>(o, weights, v_tile, at);
    }
    if (mine >= p.seq)
        return;
    put_row_f32<D>(static_cast<float *>(p.o) + (base + mine) * p.ldo + head * p.dim, o, 1 / total, at);
    if (at.t == 0)
        p.lse[head * p.sequences * p.seq + base + mine] = largest + logf(total);
}

/* blockIdx as in the forward. */
template <int D> __global__ void __launch_bounds__(SIDE *LANES) attention_dq_f32(struct attention_backward b)
{
    const struct attention &p = b.fwd;
    SHARED_DYNAMIC(float, q_tile);
    int size = f32_tile(p.dim);
    float *do_tile = q_tile + size, *k_tile = do_tile + size, *v_tile = k_tile + size, *weights = v_tile + size;
    struct f32_place at = f32_place_of(p);
    int64_t head = blockIdx.x % p.heads, base = blockIdx.x / p.heads * p.seq;
    int64_t query = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * SIDE, row = base + query;
    int64_t kv = head / (p.heads / p.kv_heads) * p.dim, mine = query + at.row;
    int64_t stats = head * p.sequences * p.seq + base + mine;
    int rows = left_of(p.seq, query);
    fetch_tile_f32(q_tile, static_cast<const float *>(p.q) + row * p.ldq + head * p.dim, p.ldq, rows, at);
    fetch_tile_f32(do_tile, static_cast<const float *>(b.d_o) + row * b.lddo + head * p.dim, b.lddo, rows, at);
    float lse = mine < p.seq ? p.lse[stats] : INFINITY, delta = mine < p.seq ? b.delta[stats] : 0;
    float dq[D / LANES] = {};
    for (int64_t key = 0; key < query + SIDE; key += SIDE) {
        float s[OWN], dp[OWN];
        __syncthreads(); /* the tiles before are read */
        fetch_tile_f32(k_tile, static_cast<const float *>(p.k) + (base + key) * p.ldk + kv, p.ldk,
                       left_of(p.seq, key), at);
        fetch_tile_f32(v_tile, static_cast<const float *>(p.v) + (base + key) * p.ldv + kv, p.ldv,
                       left_of(p.seq, key), at);
        __syncthreads();
        dots_f32(s, q_tile, k_tile, at);
        dots_f32(dp, do_tile, v_tile, at);
        for (int i = 0; i < OWN; i++) {
            float ds = expf(s[i] * p.scale - lse) * (dp[i] - delta);
            weights[at.row * WEIGHTS_LD + at.t + LANES * i] = key + at.t + LANES * i > mine ? 0 : ds;
        }
        __syncwarp(); /* a row's weights are of one warp */
        add_rows_f32<D>(dq, weights, k_tile, at);
    }
    if (mine < p.seq)
        put_row_f32<D>(static_cast<float *>(b.dq) + (base + mine) * p.ldq + head * p.dim, dq, p.scale, at);
}

/* One head's queries from `query` on against the block's keys; rows are keys. */
template <int D>
__device__ void meet_queries_f32(float dk[D / LANES], float dv[D / LANES], const struct attention_backward &b,
                                 int64_t head, int64_t base, int64_t query, int64_t key, float *k_tile)
{
    const struct attention &p = b.fwd;
    int size = f32_tile(p.dim);
    float *v_tile = k_tile + size, *q_tile = v_tile + size, *do_tile = q_tile + size, *weights = do_tile + size;
    float *gradients = weights + SIDE * WEIGHTS_LD, s[OWN], dp[OWN];
    struct f32_place at = f32_place_of(p);
    int64_t row = base + query, stats = head * p.sequences * p.seq + row;
    int rows = left_of(p.seq, query);
    __syncthreads(); /* the tiles before are read */
    fetch_tile_f32(q_tile, static_cast<const float *>(p.q) + row * p.ldq + head * p.dim, p.ldq, rows, at);
    fetch_tile_f32(do_tile, static_cast<const float *>(b.d_o) + row * b.lddo + head * p.dim, b.lddo, rows, at);
    __syncthreads();
    dots_f32(s, k_tile, q_tile, at);
    dots_f32(dp, v_tile, do_tile, at);
    for (int i = 0; i < OWN; i++) {
        int column = at.t + LANES * i;
        bool seen = column < rows && query + column >= key + at.row;
        float w = seen ? expf(s[i] * p.scale - p.lse[stats + column]) : 0;
        weights[at.row * WEIGHTS_LD + column] = w;
        gradients[at.row * WEIGHTS_LD + column] = seen ? w * (dp[i] - b.delta[stats + column]) : 0;
    }
    __syncwarp(); /* a row's weights are of one warp */
    add_rows_f32<D>(dv, weights, do_tile, at);
    add_rows_f32<D>(dk, gradients, q_tile, at);
}

/* blockIdx.x: sequence and key head; blockIdx.y: keys, the first of which meet the most queries. */
template <int D> __global__ void __launch_bounds__(SIDE *LANES) attention_dkv_f32(struct attention_backward b)
{
    const struct attention &p = b.fwd;
    SHARED_DYNAMIC(float, k_tile);
    struct f32_place at = f32_place_of(p);
    int64_t kv_head = blockIdx.x % p.kv_heads, base = blockIdx.x / p.kv_heads * p.seq,
            share = p.heads / p.kv_heads;
    int64_t key = static_cast<int64_t>(blockIdx.y) * SIDE, row = base + key, column = kv_head * p.dim;
    int rows = left_of(p.seq, key);
    fetch_tile_f32(k_tile, static_cast<const float *>(p.k) + row * p.ldk + column, p.ldk, rows, at);
    fetch_tile_f32(k_tile + f32_tile(p.dim), static_cast<const float *>(p.v) + row * p.ldv + column, p.ldv,
                   rows, at);
    float dk[D / LANES] = {}, dv[D / LANES] = {};
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; head++)
        for (int64_t query = key; query < p.seq; query += SIDE)
            meet_queries_f32<D>(dk, dv, b, head, base, query, key, k_tile);
    if (at.row >= rows)
        return;
    put_row_f32<D>(static_cast<float *>(b.dk) + (row + at.row) * p.ldk + column, dk, p.scale, at);
    put_row_f32<D>(static_cast<float *>(b.dv) + (row + at.row) * p.ldv + column, dv, 1, at);
}

/* The launch of heads in x and rows in y. */
static dim3 f32_grid(const struct attention *p, int64_t heads)
{
    return dim3(static_cast<unsigned>(p->sequences * heads),
                static_cast<unsigned>(ceil_quotient(p->seq, SIDE)));
}

static size_t f32_shared(const struct attention *p, int tiles, int weights)
{
    return static_cast<size_t>(tiles * f32_tile(p->dim) + weights * SIDE * WEIGHTS_LD) * sizeof(float);
}

void attention_f32(struct stream *s, const struct attention *p)
{
    void (*kernel)(struct attention) = p->dim <= 64    ? attention_forward_f32<64>
                                       : p->dim <= 128 ? attention_forward_f32<128>
                                                       : attention_forward_f32<MOST_DIM>;
    launch(kernel, f32_grid(p, p->heads), dim3(SIDE * LANES), f32_shared(p, 3, 1), cuda_stream(s), *p);
}

void attention_backward_f32(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
    void (*dq)(struct attention_backward) = p->dim <= 64    ? attention_dq_f32<64>
                                            : p->dim <= 128 ? attention_dq_f32<128>
                                                            : attention_dq_f32<MOST_DIM>;
    void (*dkv)(struct attention_backward) = p->dim <= 64    ? attention_dkv_f32<64>
                                             : p->dim <= 128 ? attention_dkv_f32<128>
                                                             : attention_dkv_f32<MOST_DIM>;
    launch(dq, f32_grid(p, p->heads), dim3(SIDE * LANES), f32_shared(p, 4, 1), cuda_stream(s), *b);
    launch(dkv, f32_grid(p, p->kv_heads), dim3(SIDE * LANES), f32_shared(p, 4, 2), cuda_stream(s), *b);
}

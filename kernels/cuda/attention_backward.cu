/* SPDX-License-Identifier: MIT */
/* Attention backward in bf16, on tensor cores: delta = Σ d_o·o a row first, then dq by blocks of queries,
 * then dk and dv by blocks of keys. Both compute the scores again from lse.
 *
 *     dq         queries a block (MB)    keys a tile       shared memory: 2·(queries + keys)·D·2 bytes
 *     64         128 (2)                 32                 40 KiB
 *     128        128 (2)                 32                 80 KiB
 *     192, 256   64  (1)                 32                 72, 96 KiB
 *
 *     dk, dv     keys a block (MB)       queries a tile    the same, and 16 bytes a query of a tile
 *     64         128 (2)                 32                 40 KiB
 *     128        64  (1)                 64                 64 KiB
 *     192, 256   64  (1)                 32                 72, 96 KiB: a launch for dk, one for dv, whose
 *                                                          sums would not fit the registers together
 *
 * In dk and dv all is transposed: rows of the scores are keys, so that a warp owns them as it owns queries in
 * dq. Each of the two tiles that walk is fetched again as soon as it is read: one while scores and sums are
 * computed, the other while the first product of the next tile is. What limits it: mma.sync; seven products
 * where a single kernel with atomics would do five (nine above 128); few key heads, since a block of keys takes
 * all heads of its group. */
#include "attention.h"

/* ds / scale = p·(dp - delta) from scores s, in their place, p = exp2(s·scale - lse). Rows are queries from
 * `query` on, columns keys from `key` on. lse in powers of 2, +infinity where no query is. */
template <int MB, int N>
__device__ __forceinline__ void score_gradients(struct sums<N> s[MB], const struct sums<N> dp[MB],
                                                const float lse[MB][2], const float delta[MB][2], float scale,
                                                int64_t query, int64_t key)
{
    int64_t apart = query - key;
    int after = static_cast<int>(apart < N ? apart : N) + 16 * MB * warp_number() + lane() / 4;
    UNROLL
    for (int i = 0; i < MB; i++) {
        UNROLL
        for (int n = 0; n < N / 8; n++) {
            UNROLL
            for (int e = 0; e < 4; e++) {
                int column = 8 * n + lane() % 4 * 2 + e % 2, row = 16 * i + e / 2 * 8;
                float p = exp2f(s[i].d[n][e] * scale - lse[i][e / 2]) * (dp[i].d[n][e] - delta[i][e / 2]);
                s[i].d[n][e] = column > after + row ? 0 : p;
            }
        }
    }
}

/* blockIdx as in the forward. */
template <int D, int MB, int KEYS>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_dq(struct attention_backward b, bool packed)
{
    constexpr int QUERIES = ATTENTION_ROWS<MB>;
    const struct attention &p = b.fwd;
    SHARED_DYNAMIC(bf16, q_tile);
    bf16 *do_tile = q_tile + QUERIES * D, *k_tile = do_tile + QUERIES * D, *v_tile = k_tile + KEYS * D;
    int64_t head = blockIdx.x % p.heads, base = blockIdx.x / p.heads * p.seq;
    int64_t query = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * QUERIES, row = base + query;
    int64_t kv = head / (p.heads / p.kv_heads) * p.dim, column = head * p.dim;
    int64_t end = query + QUERIES < p.seq ? query + QUERIES : p.seq, stats = head * p.sequences * p.seq + row;
    int rows = static_cast<int>(end - query);
    const bf16 *k = static_cast<const bf16 *>(p.k) + base * p.ldk + kv;
    const bf16 *v = static_cast<const bf16 *>(p.v) + base * p.ldv + kv;
    const bf16 *q = static_cast<const bf16 *>(p.q) + row * p.ldq + column;
    const bf16 *d_o = static_cast<const bf16 *>(b.d_o) + row * b.lddo + column;
    fetch_rows<QUERIES, D>(do_tile, d_o, b.lddo, rows, p.dim, packed);
    fetch_rows<KEYS, D>(v_tile, v, p.ldv, left_of(end, 0), p.dim, packed);
    cp_async_commit();
    fetch_rows<QUERIES, D>(q_tile, q, p.ldq, rows, p.dim, packed);
    fetch_rows<KEYS, D>(k_tile, k, p.ldk, left_of(end, 0), p.dim, packed);
    cp_async_commit();
    float lse[MB][2], delta[MB][2], by[MB][2];
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        int r = 16 * MB * warp_number() + 8 * i + lane() / 4;
        lse[i / 2][i % 2] = r < rows ? p.lse[stats + r] * LOG2_E : INFINITY;
        delta[i / 2][i % 2] = r < rows ? b.delta[stats + r] : 0;
        by[i / 2][i % 2] = p.scale;
    }
    struct sums<D> dq[MB];
    clear<MB>(dq);
    for (int64_t key = 0, next = KEYS; key < end; key = next, next += KEYS) {
        struct sums<KEYS> s[MB], dp[MB];
        cp_async_wait<1>();
        __syncthreads(); /* d_o and values have come */
        rows_times_rows<MB, KEYS, D>(dp, do_tile, v_tile);
        cp_async_wait<0>();
        __syncthreads(); /* queries and keys have come, and the values are read */
        if (next < end)
            fetch_rows<KEYS, D>(v_tile, v + next * p.ldv, p.ldv, left_of(end, next), p.dim, packed);
        cp_async_commit();
        rows_times_rows<MB, KEYS, D>(s, q_tile, k_tile);
        score_gradients<MB>(s, dp, lse, delta, p.scale * LOG2_E, query, key);
        add_weighted_rows<MB, KEYS, D>(dq, s, k_tile);
        if (!fault("attention-keys-read"))
            __syncthreads(); /* the keys are read */
        if (next < end)
            fetch_rows<KEYS, D>(k_tile, k + next * p.ldk, p.ldk, left_of(end, next), p.dim, packed);
        cp_async_commit();
    }
    put_rows<MB>(static_cast<bf16 *>(b.dq) + row * p.ldq + column, p.ldq, dq, by, rows, p.dim, packed);
}

/* The queries that a block of keys meets: tiles of each head of the group, from the first query that sees
 * one of the keys on. */
struct query_walk {
    int64_t base;          /* first row of the sequence */
    int head, end;         /* where it is, and the head after the group */
    int query, first, seq; /* where it is, and the sequence's */
};

/* To the next tile of N queries. */
template <int N> __device__ __forceinline__ struct query_walk walk_on(struct query_walk w)
{
    w.query += N;
    if (w.query >= w.seq) {
        w.query = w.first;
        w.head++;
    }
    return w;
}

/* Fetches d_o of a tile of queries, and their lse (in powers of 2; +infinity where no query is) and delta. */
template <int N, int D>
__device__ __forceinline__ void fetch_d_o(bf16 *tile, float *lse, float *delta,
                                          const struct attention_backward &b, const struct query_walk &w,
                                          bool packed)
{
    const struct attention &p = b.fwd;
    int64_t row = w.base + w.query, stats = w.head * p.sequences * p.seq + row;
    const bf16 *d_o = static_cast<const bf16 *>(b.d_o) + row * b.lddo + w.head * p.dim;
    int i = static_cast<int>(threadIdx.x), rows = w.seq - w.query;
    fetch_rows<N, D>(tile, d_o, b.lddo, rows, p.dim, packed);
    if (i < N) {
        lse[i] = i < rows || fault("attention-tail") ? p.lse[stats + i] * LOG2_E : INFINITY;
        delta[i] = i < rows ? b.delta[stats + i] : 0;
    }
}
template <int N, int D>
__device__ __forceinline__ void fetch_q(bf16 *tile, const struct attention &p, const struct query_walk &w,
                                        bool packed)
{
    const bf16 *q = static_cast<const bf16 *>(p.q) + (w.base + w.query) * p.ldq + w.head * p.dim;
    fetch_rows<N, D>(tile, q, p.ldq, w.seq - w.query, p.dim, packed);
}

/* Weights from scores, in their place. Rows are keys from `key` on, columns queries from `query` on. */
template <int MB, int N>
__device__ __forceinline__ void weigh_again(struct sums<N> s[MB], const float *lse, float scale, int query,
                                            int key)
{
    int first = key - query + 16 * MB * warp_number() + lane() / 4; /* columns before are hidden from row 0 */
    UNROLL
    for (int n = 0; n < N / 8; n++) {
        UNROLL
        for (int e = 0; e < 4 * MB; e++) {
            int column = 8 * n + lane() % 4 * 2 + e % 2, row = e / 2 * 8;
            float *w = &s[e / 4].d[n][e % 4];
            *w = column < first + row ? 0 : exp2f(*w * scale - lse[column]);
        }
    }
}

/* Weights become gradients of the scores / scale. */
template <int MB, int N>
__device__ __forceinline__ void weights_to_gradients(struct sums<N> s[MB], const struct sums<N> dp[MB],
                                                     const float *delta)
{
    UNROLL
    for (int n = 0; n < N / 8; n++) {
        UNROLL
        for (int e = 0; e < 4 * MB; e++)
            s[e / 4].d[n][e % 4] *= dp[e / 4].d[n][e % 4] - delta[8 * n + lane() % 4 * 2 + e % 2];
    }
}

/* The walk: dk and dv, of which the launch wants those that are true, are added up. lse and delta of a tile
 * lie in the one of two places that its number says, since the next tile's come while this one's are read. */
template <int D, int MB, int N, bool DK, bool DV>
__device__ __forceinline__ void walk_queries(struct sums<D> dk[MB], struct sums<D> dv[MB],
                                             const struct attention_backward &b, struct query_walk w, int key,
                                             const bf16 *k_tile, const bf16 *v_tile, bf16 *q_tile, bool packed)
{
    const struct attention &p = b.fwd;
    bf16 *do_tile = q_tile + N * D;
    float *lse = reinterpret_cast<float *>(do_tile + N * D), *delta = lse + 2 * N;
    fetch_d_o<N, D>(do_tile, lse, delta, b, w, packed);
    cp_async_commit();
    fetch_q<N, D>(q_tile, p, w, packed);
    cp_async_commit();
    for (int now = 0; w.head < w.end; now ^= N) {
        struct sums<N> s[MB], dp[MB];
        int query = w.query;
        w = walk_on<N>(w);
        cp_async_wait<1>();
        __syncthreads(); /* keys, values and d_o have come */
        if (DK)
            rows_times_rows<MB, N, D>(dp, v_tile, do_tile);
        if (!fault("attention-queries-wait"))
            cp_async_wait<0>();
        __syncthreads(); /* queries have come */
        rows_times_rows<MB, N, D>(s, k_tile, q_tile);
        weigh_again<MB>(s, lse + now, p.scale * LOG2_E, query, key);
        if (DV)
            add_weighted_rows<MB, N, D>(dv, s, do_tile);
        __syncthreads(); /* d_o is read */
        if (w.head < w.end)
            fetch_d_o<N, D>(do_tile, lse + (now ^ N), delta + (now ^ N), b, w, packed);
        cp_async_commit();
        if (DK) {
            weights_to_gradients<MB>(s, dp, delta + now);
            add_weighted_rows<MB, N, D>(dk, s, q_tile);
        }
        __syncthreads(); /* queries are read */
        if (w.head < w.end)
            fetch_q<N, D>(q_tile, p, w, packed);
        cp_async_commit();
    }
}

/* blockIdx.x: sequence and key head; blockIdx.y: keys, the first of which meet the most queries. */
template <int D, int MB, int N, bool DK, bool DV>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_dkv(struct attention_backward b, bool packed)
{
    constexpr int KEYS = ATTENTION_ROWS<MB>;
    static_assert(KEYS % N == 0, "the first key's tile of queries begins with it");
    const struct attention &p = b.fwd;
    SHARED_DYNAMIC(bf16, k_tile);
    bf16 *v_tile = k_tile + KEYS * D;
    int64_t kv_head = blockIdx.x % p.kv_heads, base = blockIdx.x / p.kv_heads * p.seq;
    int key = static_cast<int>(blockIdx.y) * KEYS, rows = left_of(p.seq, key);
    int64_t row = base + key, column = kv_head * p.dim;
    fetch_rows<KEYS, D>(k_tile, static_cast<const bf16 *>(p.k) + row * p.ldk + column, p.ldk, rows, p.dim,
                        packed);
    fetch_rows<KEYS, D>(v_tile, static_cast<const bf16 *>(p.v) + row * p.ldv + column, p.ldv, rows, p.dim,
                        packed);
    int share = static_cast<int>(p.heads / p.kv_heads), head = static_cast<int>(kv_head) * share;
    struct query_walk w = {base, head, head + share, key, key, static_cast<int>(p.seq)};
    struct sums<D> dk[MB], dv[MB];
    clear<MB>(dk);
    clear<MB>(dv);
    walk_queries<D, MB, N, DK, DV>(dk, dv, b, w, key, k_tile, v_tile, v_tile + KEYS * D, packed);
    float scale[MB][2], one[MB][2];
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        scale[i / 2][i % 2] = p.scale;
        one[i / 2][i % 2] = 1;
    }
    if (DK)
        put_rows<MB>(static_cast<bf16 *>(b.dk) + row * p.ldk + column, p.ldk, dk, scale, rows, p.dim, packed);
    if (DV)
        put_rows<MB>(static_cast<bf16 *>(b.dv) + row * p.ldv + column, p.ldv, dv, one, rows, p.dim, packed);
}

template <int D, int MB, int KEYS>
static void backward_dq(struct stream *s, const struct attention_backward *b, bool packed)
{
    constexpr int QUERIES = ATTENTION_ROWS<MB>;
    const struct attention *p = &b->fwd;
    dim3 grid(static_cast<unsigned>(p->sequences * p->heads),
              static_cast<unsigned>(ceil_quotient(p->seq, QUERIES)));
    launch(attention_dq<D, MB, KEYS>, grid, dim3(ATTENTION_THREADS), 2 * (QUERIES + KEYS) * D * sizeof(bf16),
           cuda_stream(s), *b, packed);
}

template <int D, int MB, int N, bool DK, bool DV>
static void backward_dkv(struct stream *s, const struct attention_backward *b, bool packed)
{
    constexpr int KEYS = ATTENTION_ROWS<MB>;
    const struct attention *p = &b->fwd;
    dim3 grid(static_cast<unsigned>(p->sequences * p->kv_heads),
              static_cast<unsigned>(ceil_quotient(p->seq, KEYS)));
    launch(attention_dkv<D, MB, N, DK, DV>, grid, dim3(ATTENTION_THREADS),
           2 * (KEYS + N) * D * sizeof(bf16) + 4 * N * sizeof(float), cuda_stream(s), *b, packed);
}

static void backward_bf16(struct stream *s, const struct attention_backward *b, bool packed)
{
    int64_t dim = b->fwd.dim;
    if (dim <= 64) {
        backward_dq<64, 2, 32>(s, b, packed);
        backward_dkv<64, 2, 32, true, true>(s, b, packed);
    } else if (dim <= 128) {
        backward_dq<128, 2, 32>(s, b, packed);
        backward_dkv<128, 1, 64, true, true>(s, b, packed);
    } else if (dim <= 192) {
        backward_dq<192, 1, 32>(s, b, packed);
        backward_dkv<192, 1, 32, true, false>(s, b, packed);
        backward_dkv<192, 1, 32, false, true>(s, b, packed);
    } else {
        backward_dq<256, 1, 32>(s, b, packed);
        backward_dkv<256, 1, 32, true, false>(s, b, packed);
        backward_dkv<256, 1, 32, false, true>(s, b, packed);
    }
}

/* delta of a row and head, by a line of threads each (rows.h): line l is head l % heads of row l / heads. */
template <class T, int N> __global__ void attention_delta(struct attention_backward b)
{
    const struct attention &p = b.fwd;
    int64_t line = line_row(), rows = p.sequences * p.seq, row = line / p.heads, head = line % p.heads;
    const T *o = static_cast<const T *>(p.o) + row * p.ldo + head * p.dim;
    const T *d_o = static_cast<const T *>(b.d_o) + row * b.lddo + head * p.dim;
    float sum = 0, x[N], y[N];
    for (int64_t c = threadIdx.x * N; row < rows && c < p.dim; c += blockDim.x * N) {
        load<N>(x, o + c);
        load<N>(y, d_o + c);
        for (int i = 0; i < N; i++)
            sum += x[i] * y[i];
    }
    sum = line_sum(sum);
    if (row < rows && threadIdx.x == 0)
        b.delta[head * rows + row] = sum;
}

template <class T> static void find_delta(struct stream *s, const struct attention_backward *b, bool packed)
{
    int64_t lines = b->fwd.sequences * b->fwd.seq * b->fwd.heads;
    if (packed)
        run_lines<PACK<T>>(s, attention_delta<T, PACK<T>>, lines, b->fwd.dim, b);
    else
        run_lines<1>(s, attention_delta<T, 1>, lines, b->fwd.dim, b);
}

void cuda_attention_backward(struct stream *s, const struct attention_backward *b)
{
    const struct attention *p = &b->fwd;
    if (!attention_fits(p))
        return;
    bool rows_packed = packed(p->type, {p->o, b->d_o}, {p->ldo, b->lddo, p->dim});
    bool all_packed = attention_packed(p) && packed(BF16, {b->d_o, b->dq, b->dk, b->dv}, {b->lddo});
    if (p->type == F32) {
        find_delta<float>(s, b, rows_packed);
        attention_backward_f32(s, b);
    } else {
        find_delta<bf16>(s, b, rows_packed);
        backward_bf16(s, b, all_packed);
    }
}

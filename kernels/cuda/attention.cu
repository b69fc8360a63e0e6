/* SPDX-License-Identifier: MIT */
/* Attention forward in bf16, on tensor cores.
 *
 *     D           queries a block (MB)    keys a tile    shared memory: (queries + 2·keys)·D·2 bytes
 *     64          128 (2)                 64              32 KiB
 *     128         128 (2)                 32              48 KiB
 *     192, 256    64  (1)                 32              48, 64 KiB
 *
 * Two blocks run on a multiprocessor. Keys and values have one tile each: while scores are computed from the
 * keys, the values come in, and while the values are added up, the next keys come in.
 *
 * Scores are kept as multiples of log 2, so that exp is exp2. A row is spread over the four lanes of a
 * group; each keeps the sum of its own columns, and they meet at the end. The blocks with the last queries,
 * which see the most keys, go first. What limits it: mma.sync (half of the work of a long sequence), the
 * exponentials, and one warp a scheduler and block; tiles on the diagonal are computed whole. */
#include "attention.h"

/* What a lane keeps of its rows 16·i + g and 16·i + g + 8: the largest score, the lane's part of Σ exp2(score -
 * largest), and its part of the same sum of values. */
template <int MB, int D> struct flash {
    float largest[MB][2], sum[MB][2];
    struct sums<D> o[MB];
};

template <int MB, int D> __device__ __forceinline__ void flash_begin(struct flash<MB, D> *f)
{
    clear<MB>(f->o);
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        f->largest[i / 2][i % 2] = -INFINITY;
        f->sum[i / 2][i % 2] = 0;
    }
}

/* Scales scores, and hides keys after the query: key `key` + column from query `query` + row. */
template <int MB, int N>
__device__ __forceinline__ void scale_scores(struct sums<N> s[MB], float scale, int64_t query, int64_t key)
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
                s[i].d[n][e] =
                    column > after + row + fault("attention-mask") ? -INFINITY : s[i].d[n][e] * scale;
            }
        }
    }
}

/* Scores become weights exp2(score - largest); what was summed so far fades where there is a new largest. */
template <int MB, int D, int N>
__device__ __forceinline__ void weigh(struct flash<MB, D> *f, struct sums<N> s[MB])
{
    bool faded = false;
    float fade[MB][2];
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        int half = i % 2;
        float before = f->largest[i / 2][half], most = before, sum = 0;
        UNROLL
        for (int n = 0; n < N / 4; n++)
            most = fmaxf(most, s[i / 2].d[n / 2][2 * half + n % 2]);
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 1));
        most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, 2));
        UNROLL
        for (int n = 0; n < N / 4; n++) {
            float *w = &s[i / 2].d[n / 2][2 * half + n % 2];
            *w = exp2f(*w - most);
            sum += *w;
        }
        fade[i / 2][half] = exp2f(before - most);
        faded = faded || fade[i / 2][half] != 1;
        f->largest[i / 2][half] = most;
        f->sum[i / 2][half] = f->sum[i / 2][half] * fade[i / 2][half] + sum;
    }
    if (!__any_sync(ALL_LANES, faded) || fault("attention-fade"))
        return;
    UNROLL
    for (int i = 0; i < MB * D / 2; i++)
        f->o[i / (D / 2)].d[i / 4 % (D / 8)][i % 4] *= fade[i / (D / 2)][i / 2 % 2];
}

/* o = sums / their weights, and lse. */
template <int MB, int D>
__device__ __forceinline__ void flash_end(struct flash<MB, D> *f, bf16 *o, int64_t ld, float *lse, int rows,
                                          int64_t dim, bool packed)
{
    float by[MB][2];
    UNROLL
    for (int i = 0; i < 2 * MB; i++) {
        float sum = f->sum[i / 2][i % 2];
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, fault("attention-shuffle") ? 4 : 2);
        by[i / 2][i % 2] = 1 / sum;
        int row = 16 * MB * warp_number() + 8 * i + lane() / 4;
        if (row < rows && lane() % 4 == 0)
            lse[row] = f->largest[i / 2][i % 2] * LN_2 + logf(sum);
    }
    put_rows<MB>(o, ld, f->o, by, rows, dim, packed);
}

/* blockIdx.x: sequence and head; blockIdx.y: queries, from the last to the first. */
template <int D, int MB, int KEYS>
__global__ void __launch_bounds__(ATTENTION_THREADS, 2) attention_forward(struct attention p, bool packed)
{
    constexpr int QUERIES = ATTENTION_ROWS<MB>;
    SHARED_DYNAMIC(bf16, q_tile);
    bf16 *k_tile = q_tile + QUERIES * D, *v_tile = k_tile + KEYS * D;
    int64_t sequence = blockIdx.x / p.heads, head = blockIdx.x % p.heads, base = sequence * p.seq;
    int64_t query = static_cast<int64_t>(gridDim.y - 1 - blockIdx.y) * QUERIES;
    int64_t kv = head / (p.heads / p.kv_heads) * p.dim, column = head * p.dim;
    int64_t end = query + QUERIES < p.seq ? query + QUERIES : p.seq; /* of queries, and of keys that they see */
    int rows = static_cast<int>(end - query);
    const bf16 *q = static_cast<const bf16 *>(p.q) + (base + query) * p.ldq + column;
    const bf16 *k = static_cast<const bf16 *>(p.k) + base * p.ldk + kv;
    const bf16 *v = static_cast<const bf16 *>(p.v) + base * p.ldv + kv;
    struct flash<MB, D> f;
    flash_begin(&f);
    fetch_rows<QUERIES, D>(q_tile, q, p.ldq, rows, p.dim, packed);
    fetch_rows<KEYS, D>(k_tile, k, p.ldk, left_of(end, 0), p.dim, packed);
    cp_async_commit();
    for (int64_t key = 0; key < end; key += KEYS) {
        struct sums<KEYS> s[MB];
        cp_async_wait<0>();
        __syncthreads(); /* the keys have come, and the values before are read */
        fetch_rows<KEYS, D>(v_tile, v + key * p.ldv, p.ldv, left_of(end, key), p.dim, packed);
        cp_async_commit();
        rows_times_rows<MB, KEYS, D>(s, q_tile, k_tile);
        if (!fault("attention-wait"))
            cp_async_wait<0>();
        if (!fault("attention-barrier"))
            __syncthreads(); /* the values have come, and the keys are read */
        if (key + KEYS < end)
            fetch_rows<KEYS, D>(k_tile, k + (key + KEYS) * p.ldk, p.ldk, left_of(end, key + KEYS), p.dim,
                                packed);
        cp_async_commit();
        scale_scores<MB>(s, p.scale * LOG2_E, query, key);
        weigh(&f, s);
        add_weighted_rows<MB, KEYS, D>(f.o, s, v_tile);
    }
    bf16 *o = static_cast<bf16 *>(p.o) + (base + query) * p.ldo + column;
    float *lse = p.lse + head * p.sequences * p.seq + base + query;
    flash_end(&f, o, p.ldo, lse, rows, p.dim, packed);
}

template <int D, int MB, int KEYS> static void forward(struct stream *s, const struct attention *p)
{
    constexpr int QUERIES = ATTENTION_ROWS<MB>;
    dim3 grid(static_cast<unsigned>(p->sequences * p->heads),
              static_cast<unsigned>(ceil_quotient(p->seq, QUERIES)));
    launch(attention_forward<D, MB, KEYS>, grid, dim3(ATTENTION_THREADS),
           (QUERIES + 2 * KEYS) * D * sizeof(bf16), cuda_stream(s), *p, attention_packed(p));
}

bool attention_fits(const struct attention *p)
{
    enum { SMALLEST = 32, MOST_BLOCKS = 65535 }; /* rows of a block of f32; what a grid has in y */
    bool fits = p->dim <= MOST_DIM && p->seq <= SMALLEST * MOST_BLOCKS && p->sequences * p->heads <= INT32_MAX;
    if (!fits)
        failure_set("cuda: attention over %lld x %lld positions of heads of %lld: heads have %d at most",
                    static_cast<long long>(p->sequences), static_cast<long long>(p->seq),
                    static_cast<long long>(p->dim), MOST_DIM);
    return fits;
}

void cuda_attention(struct stream *s, const struct attention *p)
{
    if (!attention_fits(p))
        return;
    if (p->type == F32)
        attention_f32(s, p);
    else if (p->dim <= 64)
        forward<64, 2, 64>(s, p);
    else if (p->dim <= 128)
        forward<128, 2, 32>(s, p);
    else if (p->dim <= 192)
        forward<192, 1, 32>(s, p);
    else
        forward<256, 1, 32>(s, p);
}

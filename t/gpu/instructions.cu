/* SPDX-License-Identifier: MIT */
/* Each instruction of kernels/cuda/ptx.h, and what kernels/cuda/tile.h makes of them, alone: one warp or one
 * block, against plain loops over whole matrices. The loops know what a product is and nothing of fragments, so
 * a layout that header and emulator have wrong alike shows here, on a device. Prints TAP. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vector>

#include "cuda/tile.h"

/* ---- the host's side ---- */

static int tests, wrong;

static void report(const char *name, bool ok)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", ++tests, name);
    wrong += !ok;
}

static void check(cudaError_t e, const char *what)
{
    if (e == cudaSuccess)
        return;
    printf("Bail out! %s: %s\n", what, cudaGetErrorString(e));
    exit(3);
}

/* Device memory with a copy on the host. */
template <class T> struct both {
    std::vector<T> host;
    T *device = nullptr;
    explicit both(size_t n) : host(n)
    {
        void *p;
        check(cudaMalloc(&p, n * sizeof(T)), "cudaMalloc");
        device = static_cast<T *>(p);
    }
    ~both()
    {
        cudaFree(device);
    }
    both(const both &) = delete;
    both &operator=(const both &) = delete;
    void up()
    {
        check(cudaMemcpy(device, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice), "upload");
    }
    void down()
    {
        check(cudaMemcpy(host.data(), device, host.size() * sizeof(T), cudaMemcpyDeviceToHost), "download");
    }
};

static void done(const char *what)
{
    if (failure_take() < 0) {
        printf("Bail out! %s: %s\n", what, error_text());
        exit(3);
    }
    check(cudaDeviceSynchronize(), what);
}

static unsigned seed = 1;
static int drawn(int below) /* in [0, below) */
{
    seed = seed * 1664525 + 1013904223;
    return static_cast<int>((seed >> 8) % static_cast<unsigned>(below));
}

static float value(bf16 x)
{
    return __bfloat162float(x);
}

/* Integers, whose products and sums f32 has exactly; or fractions. */
static void draw(both<bf16> &m, bool whole)
{
    for (bf16 &x : m.host)
        x = __float2bfloat16_rn(whole ? static_cast<float>(drawn(17) - 8)
                                      : static_cast<float>(drawn(4096)) / 2048 - 1);
    m.up();
}

/* a[m,k]·b[k,n] in doubles, each stored as is or turned. */
static double product_at(const std::vector<bf16> &a, int lda, bool ta, const std::vector<bf16> &b, int ldb,
                         bool tb, int k, int row, int column)
{
    double sum = 0;
    for (int i = 0; i < k; i++)
        sum += static_cast<double>(value(a[static_cast<size_t>(ta ? i * lda + row : row * lda + i)])) *
               value(b[static_cast<size_t>(tb ? column * ldb + i : i * ldb + column)]);
    return sum;
}

/* ---- mma.sync ---- */

/* d += a·b with the fragments of ptx.h's comment. */
__global__ void one_mma(const bf16 *a, const bf16 *b, float *d)
{
    int g = lane() / 4, t = lane() % 4;
    uint32_t fa[4], fb[2];
    for (int r = 0; r < 4; r++)
        fa[r] = pair_of(number(a[(g + 8 * (r % 2)) * 16 + 2 * t + 8 * (r / 2)]),
                        number(a[(g + 8 * (r % 2)) * 16 + 2 * t + 8 * (r / 2) + 1]));
    for (int r = 0; r < 2; r++)
        fb[r] = pair_of(number(b[(2 * t + 8 * r) * 8 + g]), number(b[(2 * t + 8 * r + 1) * 8 + g]));
    float sums[4];
    for (int i = 0; i < 4; i++)
        sums[i] = d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2];
    mma_bf16(sums, fa, fb);
    for (int i = 0; i < 4; i++)
        d[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = sums[i];
}

static void test_mma(bool whole)
{
    both<bf16> a(16 * 16), b(16 * 8);
    both<float> d(16 * 8);
    bool ok = true;
    for (int turn = 0; turn < 8; turn++) {
        draw(a, whole);
        draw(b, whole);
        for (float &x : d.host)
            x = static_cast<float>(drawn(64) - 32);
        std::vector<float> before = d.host;
        d.up();
        launch(one_mma, dim3(1), dim3(32), 0, nullptr, a.device, b.device, d.device);
        done("mma_bf16");
        d.down();
        for (int i = 0; i < 16 * 8; i++) {
            size_t at = static_cast<size_t>(i);
            double want = before[at] + product_at(a.host, 16, false, b.host, 8, false, 16, i / 8, i % 8);
            ok = ok && fabs(d.host[at] - want) <= (whole ? 0 : 0x1p-20 * 64);
        }
    }
    report(whole ? "mma_bf16: sums of integers are exact" : "mma_bf16: fractions are added up in f32", ok);
}

/* ---- ldmatrix ---- */

/* r[m] of each lane, of matrices that lie one after the other in shared memory. KIND: 4 or 2 matrices, negative
 * for trans. */
template <int KIND> __global__ void one_ldmatrix(const bf16 *m, uint32_t *r)
{
    SHARED(bf16, tile, 4 * 64);
    for (int i = lane(); i < 4 * 64; i += WARP_THREADS)
        tile[i] = m[i];
    __syncwarp();
    uint32_t got[4] = {};
    const bf16 *row = tile + lane() * 8;
    if (KIND == 4)
        ldmatrix_x4(got, row);
    else if (KIND == -4)
        ldmatrix_x4_trans(got, row);
    else if (KIND == 2)
        ldmatrix_x2(got, row);
    else
        ldmatrix_x2_trans(got, row);
    for (int i = 0; i < 4; i++)
        r[lane() * 4 + i] = got[i];
}

template <int KIND> static void test_ldmatrix(const char *name)
{
    both<bf16> m(4 * 64);
    both<uint32_t> r(32 * 4);
    for (int i = 0; i < 4 * 64; i++) /* each its own number: 256 integers are bf16's */
        m.host[static_cast<size_t>(i)] = __float2bfloat16_rn(static_cast<float>(i));
    m.up();
    launch(one_ldmatrix<KIND>, dim3(1), dim3(32), 0, nullptr, m.device, r.device);
    done(name);
    r.down();
    bool ok = true;
    for (int l = 0; l < 32; l++)
        for (int k = 0; k < (KIND < 0 ? -KIND : KIND); k++)
            for (int i = 0; i < 2; i++) {
                int g = l / 4, t = l % 4, row = KIND < 0 ? 2 * t + i : g, column = KIND < 0 ? g : 2 * t + i;
                uint32_t half = r.host[static_cast<size_t>(l * 4 + k)] >> 16 * i & 0xffff;
                uint32_t bits = half << 16;
                float got;
                memcpy(&got, &bits, sizeof got);
                ok = ok && got == static_cast<float>(64 * k + 8 * row + column);
            }
    report(name, ok);
}

/* ---- cp.async ---- */

/* Thread i copies its 16 bytes as far as byte 2·(i mod 9), in two groups: even threads' packs may be read after
 * wait<1>, all after wait<0>. Packs are handed on to the next thread, so a barrier counts too. */
__global__ void copies(const uint4 *from, uint4 *first, uint4 *all)
{
    SHARED(uint4, a, 64);
    SHARED(uint4, b, 64);
    int i = static_cast<int>(threadIdx.x), next = (i + 33) % 64;
    cp_async_16(a + i, from + i, 2 * (i % 9));
    cp_async_commit();
    cp_async_16(b + i, from + 64 + i, 16);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    first[i] = a[next];
    cp_async_wait<0>();
    __syncthreads();
    all[i] = b[next];
}

static void test_cp_async()
{
    both<unsigned short> from(2 * 64 * 8), first(64 * 8), all(64 * 8);
    for (unsigned short &x : from.host)
        x = static_cast<unsigned short>(1 + drawn(65535));
    from.up();
    launch(copies, dim3(1), dim3(64), 0, nullptr, reinterpret_cast<uint4 *>(from.device),
           reinterpret_cast<uint4 *>(first.device), reinterpret_cast<uint4 *>(all.device));
    done("cp_async_16");
    first.down();
    all.down();
    bool part = true, whole = true;
    for (int i = 0; i < 64; i++)
        for (int j = 0; j < 8; j++) {
            int of = (i + 33) % 64;
            size_t at = static_cast<size_t>(i * 8 + j), source = static_cast<size_t>(of * 8 + j);
            part = part && first.host[at] == (j < of % 9 ? from.host[source] : 0);
            whole = whole && all.host[at] == from.host[source + 64 * 8];
        }
    report("cp_async_16: 0 to 16 bytes, and zeros after them; wait<1>", part);
    report("cp_async_16: the last group; wait<0>", whole);
}

/* ---- tiles ---- */

/* A tile of 64 rows from a ragged corner of a matrix, read back by spot(). */
template <int PACKS>
__global__ void fetched(const bf16 *from, int ld, int rows, int columns, bool packed, bf16 *to)
{
    SHARED(bf16, tile, 64 * PACKS * PACK_BF16);
    fetch<64, PACKS, 128>(tile, from, ld, rows, columns, packed);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 64 * PACKS * PACK_BF16; i += 128) {
        int row = i / (PACKS * PACK_BF16), column = i % (PACKS * PACK_BF16);
        to[i] = tile[spot<PACKS>(row, column / PACK_BF16) + column % PACK_BF16];
    }
}

template <int PACKS> static void test_fetch(bool packed)
{
    constexpr int WIDE = PACKS * PACK_BF16;
    const int ld = packed ? WIDE + 16 : WIDE + 3;
    both<bf16> from(static_cast<size_t>(64 * ld)), to(64 * WIDE);
    draw(from, true);
    bool ok = true;
    for (int rows = 64; rows >= 0; rows -= 21)
        for (int columns = WIDE; columns > 0; columns -= 13) {
            launch(fetched<PACKS>, dim3(1), dim3(128), 0, nullptr, from.device, ld, rows, columns, packed,
                   to.device);
            done("fetch");
            to.down();
            for (int i = 0; i < 64 * WIDE; i++) {
                int row = i / WIDE, column = i % WIDE;
                float want = row < rows && column < columns
                                 ? value(from.host[static_cast<size_t>(row * ld + column)])
                                 : 0;
                ok = ok && value(to.host[static_cast<size_t>(i)]) == want;
            }
        }
    char name[96];
    snprintf(name, sizeof name, "fetch: a tile of %d packs a row, %s", PACKS,
             packed ? "in packs" : "element by element");
    report(name, ok);
}

/* c[64,64] = op(a)·op(b), K = 64, by four warps of 16 rows each: what grouped products do with tiles, of one
 * tile. */
template <int PACKS>
__global__ void tile_product(const bf16 *a, const bf16 *b, bool ta, bool tb, int ld, bf16 *c, bf16 *again)
{
    SHARED_DYNAMIC(bf16, tiles);
    bf16 *left = tiles, *right = tiles + 64 * PACKS * PACK_BF16;
    fetch<64, PACKS, 128>(left, a, ld, 64, 64, true);
    fetch<64, PACKS, 128>(right, b, ld, 64, 64, true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    int row = static_cast<int>(threadIdx.x) / WARP_THREADS * 16;
    int down = lanes_down<PACKS>(), across = lanes_across<PACKS>();
    struct sums<64> d[1];
    clear<1, 64>(d);
    UNROLL
    for (int k = 0; k < 4; k++) {
        uint32_t fa[4];
        if (ta)
            a_fragment_turned<PACKS>(fa, left, across, 16 * k, row / PACK_BF16);
        else
            a_fragment<PACKS>(fa, left, down, row, 2 * k);
        UNROLL
        for (int n = 0; n < 4; n++) {
            uint32_t fb[4];
            if (tb)
                b_fragments<PACKS>(fb, right, across, 16 * n, 2 * k);
            else
                b_fragments_turned<PACKS>(fb, right, down, 16 * k, 2 * n);
            mma_bf16(d[0].d[2 * n], fa, fb);
            mma_bf16(d[0].d[2 * n + 1], fa, fb + 2);
        }
    }
    int g = lane() / 4, t = lane() % 4;
    UNROLL
    for (int n = 0; n < 8; n++)
        UNROLL
    for (int half = 0; half < 2; half++)
        put_pair(c + (row + g + 8 * half) * 64 + 8 * n + 2 * t, d[0].d[n][2 * half], d[0].d[n][2 * half + 1], 2,
                 true);
    /* the sums, rounded, as a fragment of A, stored as ptx.h says: c once more */
    UNROLL
    for (int k = 0; k < 4; k++) {
        uint32_t fa[4];
        a_fragment_of(fa, d[0], k);
        UNROLL
        for (int r = 0; r < 4; r++)
            *reinterpret_cast<uint32_t *>(again + (row + g + 8 * (r % 2)) * 64 + 16 * k + 2 * t + 8 * (r / 2)) =
                fa[r];
    }
}

template <int PACKS> static void test_tile_product()
{
    const int ld = 72;
    both<bf16> a(64 * ld), b(64 * ld), c(64 * 64), again(64 * 64);
    for (int form = 0; form < 4; form++) {
        bool ok = true, ta = form & 1, tb = form & 2;
        draw(a, false);
        draw(b, false);
        launch(tile_product<PACKS>, dim3(1), dim3(128), 2 * 64 * PACKS * PACK_BF16 * sizeof(bf16), nullptr,
               a.device, b.device, ta, tb, ld, c.device, again.device);
        done("fragments of tiles");
        c.down();
        again.down();
        for (int i = 0; i < 64 * 64; i++) {
            size_t at = static_cast<size_t>(i);
            double want = product_at(a.host, ld, ta, b.host, ld, tb, 64, i / 64, i % 64);
            ok = ok && fabs(value(c.host[at]) - want) <= (1 + fabs(want)) / 128;
            ok = ok && value(again.host[at]) == value(c.host[at]);
        }
        char name[96];
        snprintf(name, sizeof name, "fragments of tiles of %d packs a row: a %s, b %s", PACKS,
                 ta ? "turned" : "as it is", tb ? "as it is" : "turned");
        report(name, ok);
    }
}

/* ---- what else kernels rely on ---- */

__global__ void fill_shared(int *out, int n)
{
    SHARED_DYNAMIC(int, a);
    for (int i = static_cast<int>(threadIdx.x); i < n; i += 256)
        a[i] = opaque(i * 7);
    __syncthreads();
    if (threadIdx.x == 0) {
        int good = 0;
        for (int i = 0; i < n; i++)
            good += a[i] == 7 * i;
        *out = good;
    }
}

static void test_shared()
{
    both<int> out(1);
    const int n = 96 << 8; /* 96 KiB: every device since sm_80 has that for a block which asks */
    launch(fill_shared, dim3(1), dim3(256), n * sizeof(int), nullptr, out.device, n);
    done("96 KiB of shared memory");
    out.down();
    report("96 KiB of shared memory, and opaque()", out.host[0] == n);
}

int main()
{
    test_mma(true);
    test_mma(false);
    test_ldmatrix<4>("ldmatrix_x4");
    test_ldmatrix<-4>("ldmatrix_x4_trans");
    test_ldmatrix<2>("ldmatrix_x2");
    test_ldmatrix<-2>("ldmatrix_x2_trans");
    test_cp_async();
    for (int packed = 1; packed >= 0; packed--) {
        test_fetch<4>(packed);
        test_fetch<8>(packed);
        test_fetch<16>(packed);
    }
    test_tile_product<8>();
    test_tile_product<16>();
    test_shared();
    printf("1..%d\n", tests);
    return wrong != 0;
}

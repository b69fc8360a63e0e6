/* SPDX-License-Identifier: MIT */
/* Kernels that are right, each in the style of one of kernels/cuda: a norm by shuffles, a product by cp.async,
 * ldmatrix and mma, a stable sort by blocks, a last block that adds up. Their results must be exact with every
 * seed. */
#include "test.h"

static uint32_t numbers = 12345;
int small_number()
{
    numbers = numbers * 1664525 + 1013904223;
    return static_cast<int>(numbers >> 20) % 9 - 4; /* -4 to 4: sums of products are exact in f32 */
}

/* ---- y[row] = sum of x[row, :], a block a row ---- */

__global__ void row_sums(const float *__restrict__ x, float *__restrict__ y, int width)
{
    SHARED(float, part, 32);
    float sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < width; i += static_cast<int>(blockDim.x))
        sum += x[static_cast<int64_t>(blockIdx.x) * width + i];
    for (int by = 16; by; by /= 2)
        sum += __shfl_down_sync(0xffffffff, sum, static_cast<unsigned>(by));
    if (threadIdx.x % 32 == 0)
        part[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0;
        for (int by = 16; by; by /= 2)
            sum += __shfl_xor_sync(0xffffffff, sum, by);
        if (threadIdx.x == 0)
            y[blockIdx.x] = sum;
    }
}

bool good_row_sums(cudaStream_t s)
{
    const int rows = 7, width = 333;
    std::vector<float> x(rows * width), want(rows);
    for (int i = 0; i < rows * width; i++)
        want[static_cast<size_t>(i / width)] += x[static_cast<size_t>(i)] = static_cast<float>(small_number());
    float *dx = to_device(x, s), *dy = device<float>(rows);
    launch(row_sums, rows, 256, 0, s, dx, dy, width);
    return from_device(dy, rows, s) == want;
}

/* ---- C[m,n] = A[m,k] · B[n,k]ᵀ in bf16, tiles of 64 x 64 x 32, two buffers, four warps of 32 x 32 ---- */

constexpr int TILE = 64, STEP = 32, LD = STEP + 8; /* 16 bytes more a row: ldmatrix without bank conflicts */
using bf16 = __nv_bfloat16;

__device__ void load_tile(bf16 *to, const bf16 *from, int rows, int first, int column, int k)
{
    for (int i = static_cast<int>(threadIdx.x); i < TILE * STEP / 8; i += static_cast<int>(blockDim.x)) {
        int r = i / (STEP / 8), c = i % (STEP / 8) * 8, left = k - column - c;
        bool in = first + r < rows && left > 0;
        cp_async_16(to + r * LD + c, in ? from + static_cast<int64_t>(first + r) * k + column + c : from,
                    in ? (left < 8 ? left * 2 : 16) : 0);
    }
    cp_async_commit();
}

__device__ void multiply_tile(float d[2][4][4], const bf16 *a, const bf16 *b, int lane)
{
    for (int kk = 0; kk < STEP; kk += 16) {
        uint32_t ra[2][4], rb[4][2];
        for (int i = 0; i < 2; i++)
            ldmatrix_x4(ra[i], a + (16 * i + lane % 16) * LD + kk + lane / 16 * 8);
        for (int j = 0; j < 4; j++)
            ldmatrix_x2(rb[j], b + (8 * j + lane % 8) * LD + kk + lane / 8 % 2 * 8);
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 4; j++)
                mma_bf16(d[i][j], ra[i], rb[j]);
    }
}

__global__ void __launch_bounds__(128)
    product(const bf16 *__restrict__ a, const bf16 *__restrict__ b, float *__restrict__ c, int m, int n, int k)
{
    SHARED_DYNAMIC(bf16, tiles); /* [2 buffers][A, B][TILE][LD] */
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int row = static_cast<int>(blockIdx.y) * TILE, column = static_cast<int>(blockIdx.x) * TILE;
    float d[2][4][4] = {};
    load_tile(tiles, a, m, row, 0, k);
    load_tile(tiles + TILE * LD, b, n, column, 0, k);
    for (int at = 0, turn = 0; at < k; at += STEP, turn ^= 1) {
        bf16 *here = tiles + turn * 2 * TILE * LD, *next = tiles + (turn ^ 1) * 2 * TILE * LD;
        if (at + STEP < k) {
            load_tile(next, a, m, row, at + STEP, k);
            load_tile(next + TILE * LD, b, n, column, at + STEP, k);
            cp_async_wait<2>();
        } else {
            cp_async_wait<0>();
        }
        __syncthreads();
        multiply_tile(d, here + warp / 2 * 32 * LD, here + TILE * LD + warp % 2 * 32 * LD, lane);
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int e = 0; e < 4; e++) {
                int r = row + warp / 2 * 32 + 16 * i + lane / 4 + 8 * (e / 2);
                int col = column + warp % 2 * 32 + 8 * j + 2 * (lane % 4) + e % 2;
                if (r < m && col < n)
                    c[static_cast<int64_t>(r) * n + col] = d[i][j][e];
            }
}

bool good_product(cudaStream_t s)
{
    const int m = 100, n = 72, k = 104;
    std::vector<bf16> a(m * k), b(n * k);
    for (bf16 &v : a)
        v = __float2bfloat16_rn(static_cast<float>(small_number()));
    for (bf16 &v : b)
        v = __float2bfloat16_rn(static_cast<float>(small_number()));
    std::vector<float> want(m * n);
    for (size_t i = 0; i < want.size(); i++)
        for (size_t l = 0; l < k; l++)
            want[i] += __bfloat162float(a[i / n * k + l]) * __bfloat162float(b[i % n * k + l]);
    bf16 *da = to_device(a, s), *db = to_device(b, s);
    float *dc = device<float>(m * n);
    launch(product, dim3((n + TILE - 1) / TILE, (m + TILE - 1) / TILE), 128, 4 * TILE * LD * sizeof(bf16), s,
           da, db, dc, m, n, k);
    return from_device(dc, m * n, s) == want;
}

/* ---- a stable sort of numbers below KEYS: counts a block, where each begins, scatter ---- */

constexpr int KEYS = 5, EACH = 128;

__global__ void count_keys(const int *key, int n, int *counts) /* [KEYS][blocks] */
{
    SHARED(int, count, KEYS);
    if (threadIdx.x < KEYS)
        count[threadIdx.x] = 0;
    __syncthreads();
    int i = static_cast<int>(blockIdx.x * EACH + threadIdx.x);
    if (i < n)
        atomicAdd(&count[key[i]], 1);
    __syncthreads();
    if (threadIdx.x < KEYS)
        counts[threadIdx.x * gridDim.x + blockIdx.x] = count[threadIdx.x];
}

__global__ void begin_keys(int *counts, int length)
{
    for (int i = 0, sum = 0; i < length && threadIdx.x == 0; i++) {
        int n = counts[i];
        counts[i] = sum;
        sum += n;
    }
}

__global__ void scatter_keys(const int *key, int n, const int *first, int *order)
{
    SHARED(int, warps, EACH / 32 * KEYS);
    const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int i = static_cast<int>(blockIdx.x * EACH + threadIdx.x), mine = i < n ? key[i] : KEYS, rank = 0;
    for (int k = 0; k < KEYS; k++) {
        unsigned same = __ballot_sync(0xffffffff, mine == k);
        if (mine == k)
            rank = __popc(same & ((1u << lane) - 1));
        if (lane == 0)
            warps[static_cast<int>(warp) * KEYS + k] = __popc(same);
    }
    __syncthreads();
    if (i >= n)
        return;
    for (unsigned w = 0; w < warp; w++)
        rank += warps[static_cast<int>(w) * KEYS + mine];
    order[first[static_cast<unsigned>(mine) * gridDim.x + blockIdx.x] + rank] = i;
}

bool good_sort(cudaStream_t s)
{
    const int n = 700, blocks = (n + EACH - 1) / EACH;
    std::vector<int> key(n), want;
    for (int &k : key)
        k = (small_number() + 4) % KEYS;
    for (int k = 0; k < KEYS; k++)
        for (int i = 0; i < n; i++)
            if (key[static_cast<size_t>(i)] == k)
                want.push_back(i);
    int *dk = to_device(key, s), *counts = device<int>(KEYS * blocks), *order = device<int>(n);
    launch(count_keys, blocks, EACH, 0, s, dk, n, counts);
    launch(begin_keys, 1, 32, 0, s, counts, KEYS * blocks);
    launch(scatter_keys, blocks, EACH, 0, s, dk, n, counts, order);
    return from_device(order, n, s) == want;
}

/* ---- the last block to come adds up what the others left: a fence and an atomic ---- */

__global__ void last_block(const int *x, int *part, unsigned *come, int *total)
{
    SHARED(unsigned, turn, 1);
    int sum = x[blockIdx.x * 32 + threadIdx.x];
    for (int by = 16; by; by /= 2)
        sum += __shfl_xor_sync(0xffffffff, sum, by);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sum;
        __threadfence();
        turn[0] = atomicAdd(come, 1u);
    }
    __syncthreads();
    if (turn[0] + 1 == gridDim.x && threadIdx.x == 0) {
        int all = 0;
        for (unsigned i = 0; i < gridDim.x; i++)
            all += part[i];
        *total = all;
    }
}

bool good_last_block(cudaStream_t s)
{
    const int blocks = 6;
    std::vector<int> x(32 * blocks), want(1);
    for (int &v : x)
        want[0] += v = small_number();
    int *dx = to_device(x, s), *part = device<int>(blocks), *total = device<int>(1);
    unsigned *come = device<unsigned>(1);
    cudaMemsetAsync(come, 0, sizeof *come, s);
    launch(last_block, blocks, 32, 0, s, dx, part, come, total);
    return from_device(total, 1, s) == want;
}

/* ---- two streams, ordered by an event; half warps that meet apart ---- */

__global__ void half_warps(int *x)
{
    SHARED(int, a, 32);
    unsigned lane = threadIdx.x, half = lane / 16 * 16, mask = 0xffffu << half;
    a[lane] = x[lane];
    __syncwarp(mask);
    x[lane] = a[half + 15 - lane % 16];
}

bool good_streams(cudaStream_t s)
{
    cudaStream_t other;
    cudaEvent_t sent;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&sent, cudaEventDisableTiming);
    std::vector<int> x(32), want(32);
    for (int i = 0; i < 32; i++)
        x[static_cast<size_t>(i)] = want[static_cast<size_t>(i / 16 * 16 + 15 - i % 16)] = i;
    int *dx = to_device(x, s);
    cudaEventRecord(sent, s);
    cudaStreamWaitEvent(other, sent, 0);
    launch(half_warps, 1, 32, 0, other, dx);
    bool same = from_device(dx, 32, other) == want;
    cudaStreamDestroy(other);
    cudaEventDestroy(sent);
    return same;
}

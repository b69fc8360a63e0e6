/* SPDX-License-Identifier: MIT */
#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include "pack/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

static const char magic[8] = "moesplt1";

enum {
    STREAMS = 2 + SPLIT_KINDS, /* bytes, 16-bit, 32-bit of each kind */
    PLANES = 1 + 2 + 4 * SPLIT_KINDS,
    HEADER = 8 + 3 * 4 + PLANES * 4,
    SAMPLE = 1 << 16,
    HUFFMAN_LOG = 15, /* of bytes that share a Huffman code: short enough to follow one tensor after another */
};

static int stream_width(int stream)
{
    return stream == 0 ? 1 : stream == 1 ? 2 : 4;
}

static int first_plane(int stream)
{
    return stream < 2 ? stream : 4 * stream - 5;
}

struct split_coder {
    ZSTD_CCtx *in;
    ZSTD_DCtx *out;
    uint8_t *planes; /* [part_bytes] */
};

struct split_coder *split_coder_new(int64_t part_bytes)
{
    struct split_coder *c = xmalloc(sizeof *c);
    *c = (struct split_coder){ZSTD_createCCtx(), ZSTD_createDCtx(), xmalloc(max64(part_bytes, 1))};
    return c;
}

void split_coder_free(struct split_coder *c)
{
    if (!c)
        return;
    ZSTD_freeCCtx(c->in);
    ZSTD_freeDCtx(c->out);
    free(c->planes);
    free(c);
}

int64_t split_most_runs(int64_t n)
{
    return min64(n, 64 + n / 64);
}

int64_t split_bound(int64_t n, int64_t runs)
{
    return HEADER + 4 * runs + (int64_t)ZSTD_compressBound((size_t)n) + PLANES * 64;
}

static void put32(uint8_t *p, int64_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static int64_t get32(const uint8_t *p)
{
    return p[0] | (int64_t)p[1] << 8 | (int64_t)p[2] << 16 | (int64_t)p[3] << 24;
}

/* ---- numbers to planes and back; loops without branches, which vectorise ---- */

#if defined __x86_64__ && !defined __clang__
#define WIDE __attribute__((target_clones("avx2", "default")))
#else
#define WIDE
#endif

WIDE static void split2(const uint8_t *restrict p, int64_t count, uint8_t *restrict high, uint8_t *restrict low)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t x;
        memcpy(&x, p + 2 * i, 2);
        x = (uint16_t)(x << 1 | x >> 15);
        high[i] = (uint8_t)(x >> 8);
        low[i] = (uint8_t)x;
    }
}

WIDE static void join2(const uint8_t *restrict high, const uint8_t *restrict low, int64_t count,
                       uint8_t *restrict p)
{
    for (int64_t i = 0; i < count; i++) {
        uint16_t x = (uint16_t)(high[i] << 8 | low[i]);
        x = (uint16_t)(x >> 1 | x << 15);
        memcpy(p + 2 * i, &x, 2);
    }
}

WIDE static void split4(const uint8_t *restrict p, int64_t count, uint8_t *restrict a, uint8_t *restrict b,
                        uint8_t *restrict c, uint8_t *restrict d)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t x;
        memcpy(&x, p + 4 * i, 4);
        x = x << 1 | x >> 31;
        a[i] = (uint8_t)(x >> 24);
        b[i] = (uint8_t)(x >> 16);
        c[i] = (uint8_t)(x >> 8);
        d[i] = (uint8_t)x;
    }
}

WIDE static void join4(const uint8_t *restrict a, const uint8_t *restrict b, const uint8_t *restrict c,
                       const uint8_t *restrict d, int64_t count, uint8_t *restrict p)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t x = (uint32_t)a[i] << 24 | (uint32_t)b[i] << 16 | (uint32_t)c[i] << 8 | d[i];
        x = x >> 1 | x << 31;
        memcpy(p + 4 * i, &x, 4);
    }
}

static int run_stream(const struct split_run *r)
{
    return r->width == 4 ? 2 + r->kind : r->width == 2;
}

/* Where each plane begins in c->planes, and where the last ends: into at[PLANES+1]. */
static void place_planes(const int64_t bytes[STREAMS], int64_t at[PLANES + 1])
{
    at[0] = 0;
    for (int s = 0; s < STREAMS; s++)
        for (int p = first_plane(s); p < first_plane(s + 1); p++)
            at[p + 1] = at[p] + bytes[s] / stream_width(s);
}

/* One run between raw bytes and planes; `at` moves on. */
static void take_apart(const uint8_t *raw, int64_t bytes, int stream, uint8_t *planes, int64_t at[PLANES])
{
    int64_t n = bytes / stream_width(stream), *a = at + first_plane(stream);
    if (stream == 0)
        memcpy(planes + a[0], raw, bytes);
    else if (stream == 1)
        split2(raw, n, planes + a[0], planes + a[1]);
    else
        split4(raw, n, planes + a[0], planes + a[1], planes + a[2], planes + a[3]);
    for (int p = 0; p < stream_width(stream); p++)
        a[p] += n;
}

static void put_together(uint8_t *raw, int64_t bytes, int stream, const uint8_t *planes[PLANES])
{
    int64_t n = bytes / stream_width(stream);
    const uint8_t **a = planes + first_plane(stream);
    if (stream == 0)
        memcpy(raw, a[0], bytes);
    else if (stream == 1)
        join2(a[0], a[1], n, raw);
    else
        join4(a[0], a[1], a[2], a[3], n, raw);
    for (int p = 0; p < stream_width(stream); p++)
        a[p] += n;
}

/* ---- planes ---- */

/* Shannon's bits a byte, of a sample spread over the plane. */
static double entropy(const uint8_t *p, int64_t n)
{
    int counts[256] = {0};
    int64_t pieces = 16, piece = SAMPLE / pieces, total = 0;
    for (int64_t i = 0; i < pieces; i++) {
        int64_t from = n <= SAMPLE ? i * piece : (n - piece) / (pieces - 1) * i;
        for (int64_t k = from; k < min64(from + piece, n); k++, total++)
            counts[p[k]]++;
    }
    double bits = 0;
    for (int i = 0; i < 256; i++)
        if (counts[i])
            bits -= counts[i] * log2((double)counts[i] / (double)total);
    return total ? bits / (double)total : 0;
}

/* The plane at p as a zstd frame or stored, to out; its bytes. `numbers`: not headers and JSON. */
static int64_t pack_plane(struct split_coder *c, const uint8_t *p, int64_t n, bool numbers, uint8_t *out)
{
    double bits = n ? entropy(p, n) : 8;
    size_t packed = (size_t)n;
    if (bits < 7.9) {
        bool huffman = numbers && bits > 1; /* below, runs are worth looking for */
        ZSTD_CCtx_setParameter(c->in, ZSTD_c_compressionLevel, huffman ? ZSTD_minCLevel() : 1);
        ZSTD_CCtx_setParameter(c->in, ZSTD_c_windowLog, huffman ? HUFFMAN_LOG : 0);
        /* zstd leaves literals alone at such a level; but they are all that matters here */
        ZSTD_CCtx_setParameter(c->in, ZSTD_c_literalCompressionMode, ZSTD_ps_enable);
        packed = ZSTD_compress2(c->in, out, ZSTD_compressBound((size_t)n), p, (size_t)n);
    }
    if (!ZSTD_isError(packed) && packed < (size_t)n)
        return (int64_t)packed;
    if (n)
        memcpy(out, p, n);
    return n;
}

int64_t split_encode(struct split_coder *c, const uint8_t *raw, int64_t n, uint32_t crc32,
                     const struct split_run *runs, int64_t count, uint8_t *out)
{
    int64_t bytes[STREAMS] = {0}, at[PLANES + 1], end[PLANES + 1];
    for (int64_t i = 0; i < count; i++)
        bytes[run_stream(&runs[i])] += runs[i].bytes;
    place_planes(bytes, at);
    memcpy(end, at, sizeof end);
    memcpy(out, magic, 8);
    put32(out + 8, n);
    put32(out + 12, crc32);
    put32(out + 16, count);
    uint8_t *put = out + HEADER;
    for (int64_t i = 0, done = 0; i < count; done += runs[i++].bytes) {
        int stream = run_stream(&runs[i]);
        take_apart(raw + done, runs[i].bytes, stream, c->planes, end);
        put32(put, runs[i].bytes * 16 + (stream < 2 ? stream : 4 * (stream - 2) + 2));
        put += 4;
    }
    for (int p = 0; p < PLANES; p++) {
        int64_t packed = pack_plane(c, c->planes + at[p], at[p + 1] - at[p], p > 0, put);
        put32(out + 20 + 4 * p, packed);
        put += packed;
    }
    return put - out;
}

static int bad(const char *what)
{
    return error(STATUS_USAGE, "not a part of the codec split: %s", what);
}

/* The stream of a run's word, or -1. */
static int word_stream(int64_t word)
{
    int code = (int)(word & 3), kind = (int)(word >> 2 & 3);
    return code == 2 ? 2 + kind : code < 2 && !kind ? code : -1;
}

/* The runs: into bytes[] how many of each stream. -1 unless they are n together. */
static int read_runs(const uint8_t *runs, int64_t count, int64_t n, int64_t bytes[STREAMS])
{
    int64_t all = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t word = get32(runs + 4 * i);
        int stream = word_stream(word);
        if (stream < 0 || word / 16 % stream_width(stream) || word < 16)
            return bad("a run is malformed");
        bytes[stream] += word / 16;
        all += word / 16;
    }
    return all == n ? 0 : bad("its runs have another number of bytes");
}

/* Where the plane's bytes are: those of one that is stored stay where they are. NULL: it is malformed. */
static const uint8_t *unpack_plane(struct split_coder *c, const uint8_t *in, int64_t packed, uint8_t *plane,
                                   int64_t n)
{
    if (packed == n)
        return in;
    size_t got = ZSTD_decompressDCtx(c->out, plane, (size_t)n, in, (size_t)packed);
    return ZSTD_isError(got) || (int64_t)got != n ? NULL : plane;
}

int split_decode(struct split_coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n, uint32_t *crc32)
{
    if (m < HEADER || memcmp(in, magic, 8) != 0)
        return bad("it does not begin as one");
    int64_t count = get32(in + 16), at[PLANES + 1], bytes[STREAMS] = {0};
    *crc32 = (uint32_t)get32(in + 12);
    if (get32(in + 8) != n)
        return bad("it has another number of bytes");
    if (count > split_most_runs(n) || count * 4 > m - HEADER)
        return bad("it has too many runs");
    TRY(read_runs(in + HEADER, count, n, bytes));
    place_planes(bytes, at);
    const uint8_t *from = in + HEADER + 4 * count, *planes[PLANES];
    for (int p = 0; p < PLANES; p++) {
        int64_t packed = get32(in + 20 + 4 * p), plane = at[p + 1] - at[p];
        if (packed > in + m - from || packed > plane)
            return bad("a plane is cut off");
        planes[p] = unpack_plane(c, from, packed, c->planes + at[p], plane);
        if (!planes[p])
            return bad("a plane does not unpack");
        from += packed;
    }
    if (from != in + m)
        return bad("something follows its last plane");
    for (int64_t i = 0, done = 0; i < count; i++) {
        int64_t word = get32(in + HEADER + 4 * i);
        put_together(raw + done, word / 16, word_stream(word), planes);
        done += word / 16;
    }
    return 0;
}

/* SPDX-License-Identifier: MIT */
#include "pack/codec.h"

#include <libdeflate.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensors/sum.h"

static const struct {
    const char *name, *suffix;
} codecs[] = {
    [CODEC_NONE] = {"none"}, [CODEC_GZIP] = {"gzip", "gz"}, [CODEC_SPLIT] = {"split", "split"}, [CODECS] = {0}};
const struct words codec_words = WORDS(codecs);

const char *codec_suffix(enum codec k)
{
    return codecs[k].suffix;
}

struct coder {
    enum codec codec;
    struct split_coder *split;
    struct libdeflate_compressor *deflate;
    struct libdeflate_decompressor *inflate;
};

enum { GZIP_LEVEL = 1 }; /* weights hardly shrink more at higher ones */

struct coder *coder_new(enum codec k, int64_t part_bytes)
{
    if (k == CODEC_NONE)
        return NULL;
    struct coder *c = xcalloc(1, sizeof *c);
    c->codec = k;
    if (k == CODEC_SPLIT)
        c->split = split_coder_new(part_bytes);
    if (k == CODEC_GZIP) {
        c->deflate = libdeflate_alloc_compressor(GZIP_LEVEL);
        c->inflate = libdeflate_alloc_decompressor();
    }
    return c;
}

void coder_free(struct coder *c)
{
    if (!c)
        return;
    split_coder_free(c->split);
    libdeflate_free_compressor(c->deflate);
    libdeflate_free_decompressor(c->inflate);
    free(c);
}

int64_t codec_bound(enum codec k, int64_t n)
{
    /* gzip: a stored block has 5 bytes beside its 64 KiB or so */
    return k == CODEC_SPLIT ? split_bound(n, split_most_runs(n)) : k == CODEC_GZIP ? n + n / 64 + 4096 : n;
}

static int64_t encode_gzip(struct coder *c, const uint8_t *raw, int64_t n, uint8_t *out)
{
    size_t m = c->deflate ? libdeflate_gzip_compress(c->deflate, raw, (size_t)n, out,
                                                     (size_t)codec_bound(CODEC_GZIP, n))
                          : 0;
    return m ? (int64_t)m : error(STATUS_ENV, "gzip needs more memory than there is");
}

static int decode_gzip(struct coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n)
{
    size_t used, made;
    uint8_t none;
    if (!c->inflate)
        return error(STATUS_ENV, "gzip needs more memory than there is");
    if (libdeflate_gzip_decompress_ex(c->inflate, in, (size_t)m, n ? raw : &none, (size_t)n, &used, &made) !=
            LIBDEFLATE_SUCCESS ||
        used != (size_t)m || made != (size_t)n)
        return error(STATUS_USAGE, "not a gzip file of %lld bytes", (long long)n);
    return 0;
}

int64_t coder_encode(struct coder *c, const uint8_t *raw, int64_t n, uint32_t crc32,
                     const struct split_run *runs, int64_t count, uint8_t *out)
{
    return c->codec == CODEC_GZIP ? encode_gzip(c, raw, n, out)
                                  : split_encode(c->split, raw, n, crc32, runs, count, out);
}

int coder_decode(struct coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n, uint32_t *crc32)
{
    uint32_t said = 0;
    TRY(c->codec == CODEC_GZIP ? decode_gzip(c, in, m, raw, n) : split_decode(c->split, in, m, raw, n, &said));
    *crc32 = sum_bytes(0, raw, n);
    if (c->codec == CODEC_SPLIT && said != *crc32)
        return error(STATUS_USAGE, "it is damaged: crc32 %08x, not %08x", *crc32, said);
    return 0;
}

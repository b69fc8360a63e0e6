/* SPDX-License-Identifier: MIT */
#include "pack/codec.h"

#include <isa-l/igzip_lib.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "pack/sum.h"

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
    struct isal_zstream deflate;
    struct inflate_state inflate;
    uint8_t level[ISAL_DEF_LVL1_DEFAULT]; /* deflate's */
};

struct coder *coder_new(enum codec k, int64_t part_bytes)
{
    if (k == CODEC_NONE)
        return NULL;
    struct coder *c = xcalloc(1, sizeof *c);
    c->codec = k;
    if (k == CODEC_SPLIT)
        c->split = split_coder_new(part_bytes);
    return c;
}

void coder_free(struct coder *c)
{
    if (c)
        split_coder_free(c->split);
    free(c);
}

int64_t codec_bound(enum codec k, int64_t n)
{
    /* gzip: a stored block has 5 bytes beside its 64 KiB or so */
    return k == CODEC_SPLIT ? split_bound(n, split_most_runs(n)) : k == CODEC_GZIP ? n + n / 64 + 4096 : n;
}

static int64_t encode_gzip(struct coder *c, const uint8_t *raw, int64_t n, uint8_t *out)
{
    struct isal_zstream *z = &c->deflate;
    isal_deflate_init(z);
    z->level = 1;
    z->level_buf = c->level;
    z->level_buf_size = sizeof c->level;
    z->gzip_flag = IGZIP_GZIP;
    z->end_of_stream = 1;
    z->next_in = (uint8_t *)(uintptr_t)raw;
    z->avail_in = (uint32_t)n;
    z->next_out = out;
    z->avail_out = (uint32_t)codec_bound(CODEC_GZIP, n);
    if (isal_deflate(z) != COMP_OK || z->internal_state.state != ZSTATE_END)
        return error(STATUS_ENV, "gzip needs more bytes than it should");
    return z->total_out;
}

static int decode_gzip(struct coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n)
{
    struct inflate_state *z = &c->inflate;
    uint8_t none;
    isal_inflate_init(z);
    z->crc_flag = ISAL_GZIP;
    z->next_in = (uint8_t *)(uintptr_t)in;
    z->avail_in = (uint32_t)m;
    z->next_out = n ? raw : &none;
    z->avail_out = (uint32_t)n;
    if (isal_inflate(z) != ISAL_DECOMP_OK || z->block_state != ISAL_BLOCK_FINISH || z->avail_in || z->avail_out)
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

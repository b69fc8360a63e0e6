/* SPDX-License-Identifier: MIT */
/* How a part of a file becomes bytes of an archive, and comes back. */
#ifndef PACK_CODEC_H
#define PACK_CODEC_H

#include <stdint.h>

#include "base/words.h"
#include "pack/split.h"

enum codec { CODEC_NONE, CODEC_GZIP, CODEC_SPLIT, CODECS };
extern const struct words codec_words;
/* What the names of its members end in; NULL for CODEC_NONE, whose members are whole files. */
const char *codec_suffix(enum codec k);

/* The memory that one thread needs. NULL for CODEC_NONE. */
struct coder;
struct coder *coder_new(enum codec k, int64_t part_bytes);
void coder_free(struct coder *c);

/* The most bytes that a part of n bytes may have when packed: more is nothing that anybody wrote. */
int64_t codec_bound(enum codec k, int64_t n);
/* raw[0…n), whose sum is crc32, to out; its bytes, or -1. The runs say what it is made of (CODEC_SPLIT). */
int64_t coder_encode(struct coder *c, const uint8_t *raw, int64_t n, uint32_t crc32,
                     const struct split_run *runs, int64_t count, uint8_t *out);
/* in[0…m) to raw[0…n). -1 (status 2): it is no part of n bytes, or its own checksum is not that of
 * *crc32, which is what came out. */
int coder_decode(struct coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n, uint32_t *crc32);

#endif

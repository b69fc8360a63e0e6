/* SPDX-License-Identifier: MIT */
/* The codec `split`: numbers of trained models have exponents that are nearly the same, and mantissas
 * that are noise. So a part's floats are taken apart: each is rotated left by one bit, which puts the
 * exponent into the first byte (of bf16 and f32; of f16 with three bits of the mantissa) and the sign
 * behind the mantissa; then all first bytes stand together, all second ones, and so on, apart for what is
 * spread in its own way (an optimizer's moments). Each of these planes is entropy-coded where it pays, by
 * zstd: its Huffman coder for numbers, its whole machinery where there is next to no entropy (the
 * difference of two checkpoints, moments of experts that never ran). Bytes that are no floats of 16 or 32
 * bits (headers, JSON, fp8) are one more plane.
 *
 * A part, all numbers little-endian:
 *
 *     "moesplt1"              8 bytes
 *     u32 raw                 bytes when unpacked
 *     u32 crc32               of these
 *     u32 runs                how many follow the planes' table
 *     19 × u32 packed         bytes of each plane: bytes; 16 bit, high and low; 32 bit, highest … lowest, of
 *                             each of four kinds. One with as many as unpacked is stored, another a zstd frame
 *     runs × u32              16 · bytes + 4 · kind + (0: bytes, 1: 16-bit, 2: 32-bit): what the part is made
 *                             of, in order. Only 32-bit numbers have a kind other than 0
 *     the planes, in order */
#ifndef PACK_SPLIT_H
#define PACK_SPLIT_H

#include <stdint.h>

enum { SPLIT_KINDS = 4 };

struct split_run {
    int64_t bytes;
    int width; /* of a number: 1, 2 or 4; bytes is a multiple of it */
    int kind;  /* of 32-bit numbers: in [0,SPLIT_KINDS) */
};

/* One at a time; for parts of at most `part_bytes`. */
struct split_coder;
struct split_coder *split_coder_new(int64_t part_bytes);
void split_coder_free(struct split_coder *c);

/* The most bytes that a part of n bytes in so many runs can have. */
int64_t split_bound(int64_t n, int64_t runs);
/* How many runs a part of n bytes may have: split_decode() refuses more. */
int64_t split_most_runs(int64_t n);
/* raw[0…n), which the runs cover in order, to out, which has room for split_bound(); its bytes. crc32: of raw.
 */
int64_t split_encode(struct split_coder *c, const uint8_t *raw, int64_t n, uint32_t crc32,
                     const struct split_run *runs, int64_t count, uint8_t *out);
/* The other way. raw has room for n bytes, and is not written beyond. -1 (status 2) unless in[0…m) is a
 * part of n bytes; whether its crc32 is right is for the caller to see. */
int split_decode(struct split_coder *c, const uint8_t *in, int64_t m, uint8_t *raw, int64_t n, uint32_t *crc32);

#endif

/* SPDX-License-Identifier: MIT */
/* crc32 as zlib and gzip have it, by ISA-L where it was there when this was built, else by libdeflate. */
#ifndef TENSORS_SUM_H
#define TENSORS_SUM_H

#include <stdint.h>

/* Of what `crc32` is the sum of (0: nothing), followed by p[0…n). */
uint32_t sum_bytes(uint32_t crc32, const void *p, int64_t n);
/* Of what `first` is the sum of, followed by `bytes` bytes of which `second` is. */
uint32_t sum_join(uint32_t first, uint32_t second, int64_t bytes);

#endif

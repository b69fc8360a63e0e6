/* SPDX-License-Identifier: MIT */
#include "tensors/sum.h"

#include <zlib.h>
#ifdef MOEKIT_ISAL
#include <isa-l/crc.h>
#else
#include <libdeflate.h>
#endif

uint32_t sum_bytes(uint32_t crc, const void *p, int64_t n)
{
#ifdef MOEKIT_ISAL
    return n ? crc32_gzip_refl(crc, p, (uint64_t)n) : crc;
#else
    return n ? libdeflate_crc32(crc, p, (size_t)n) : crc;
#endif
}

uint32_t sum_join(uint32_t first, uint32_t second, int64_t bytes)
{
    return (uint32_t)crc32_combine64(first, second, bytes);
}

/* SPDX-License-Identifier: MIT */
/* What the fuzz targets share. A target hands hostile bytes to one parser, and what it accepts to those that
 * trust it. Crashes, hangs, leaks, undefined behaviour, greed for memory and a MUST() that does not hold are
 * found; an error is a good answer. */
#ifndef T_FUZZ_FUZZ_H
#define T_FUZZ_FUZZ_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define MUST(condition)                                                                                        \
    do {                                                                                                       \
        if (!(condition))                                                                                      \
            __builtin_trap();                                                                                  \
    } while (0)

/* Called by libFuzzer for every input. Returns 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The path of a file in memory with these bytes, for parsers that open a file; good until the next call. */
static inline const char *memory_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[32];
    if (fd < 0)
        fd = memfd_create("fuzz", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    MUST(ftruncate(fd, 0) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
    return path;
}

#endif

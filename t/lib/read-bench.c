/* SPDX-License-Identifier: MIT */
/* What a load cannot be faster than: usage read-bench FILE... reads all of the files into memory that was
 * touched before, with two threads and no sums, and prints the seconds. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/num.h"
#include "base/process.h"
#include "block.h"

enum { PIECE = 512 << 10, FILES = 1024 };

static struct {
    int fd;
    int64_t at, bytes; /* in memory */
} file[FILES];

static int read_piece(char *memory, int64_t at, int files)
{
    int i = files - 1;
    while (file[i].at > at)
        i--;
    int64_t from = at - file[i].at, n = min64(PIECE, file[i].bytes - from);
    return n > 0 ? pread_all(file[i].fd, memory + at, (size_t)n, from, "a file") : 0;
}

int main(int argc, char **argv)
{
    int64_t bytes = 0;
    int failed = argc < 2 || argc > FILES;
    for (int i = 1; i < argc && !failed; i++) {
        struct stat st = {0};
        int fd = open(argv[i], O_RDONLY);
        failed = fd < 0 || fstat(fd, &st) != 0;
        file[i - 1].fd = fd;
        file[i - 1].at = bytes;
        file[i - 1].bytes = st.st_size;
        bytes += round_up(st.st_size, PIECE);
    }
    char *memory = failed ? NULL : block_alloc((size_t)bytes);
    double start = now_s();
#pragma omp parallel for num_threads(2) schedule(dynamic) reduction(| : failed)
    for (int64_t at = 0; at < bytes; at += PIECE)
        failed |= !memory || read_piece(memory, at, argc - 1) < 0;
    if (!failed)
        printf("%.4f\n", now_s() - start);
    return failed;
}

/* SPDX-License-Identifier: MIT */
/* Damages an archive, a bit or an end at a time, and asks whether it is noticed: for t/0420-pack.t.
 *
 *     archive-flips flips|cuts verify|restore FILE COUNT SEED
 *
 * flips: COUNT single bits, drawn at random; cuts: COUNT lengths, drawn at random, and each of the last 3 KiB
 * (restore: 16 bytes); with COUNT 0 every length. verify must find each of them a problem, and restore must end
 * with status 2 and leave nothing. Exit status 0, or 1 with a line for each that was missed. */
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "lib/unit.h"
#include "pack/restore.h"

static char path[32], *target;
static int missed;

static bool found_by_verify(void)
{
    struct verified v;
    char about[160];
    if (verify_archive(&v, path, 1, about) < 0)
        return false;
    bool found = v.problems.count == 1;
    verified_release(&v);
    return found;
}

static bool found_by_restore(void)
{
    struct restored done;
    const struct restore_request r = {.archive = path, .dir = target, .threads = 1};
    bool found = restore_archive(&r, &done) < 0 && error_status() == STATUS_USAGE && !file_exists(target);
    if (!found)
        remove_tree(target);
    return found;
}

static void try(bool verify, const char *what, long long at)
{
    if (verify ? found_by_verify() : found_by_restore())
        return;
    printf("%s %lld: missed\n", what, at);
    missed++;
}

static void flip(int fd, const char *bytes, int64_t bit)
{
    char b = (char)(bytes[bit / 8] ^ 1 << bit % 8);
    if (pwrite(fd, &b, 1, bit / 8) != 1)
        exit(3);
}

int main(int argc, char **argv)
{
    size_t size;
    if (argc != 6)
        return 2;
    mallopt(M_MMAP_THRESHOLD, 1 << 30); /* memory is kept for the next try */
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    bool flips = strcmp(argv[1], "flips") == 0, verify = strcmp(argv[2], "verify") == 0;
    char *bytes = file_read(argv[3], (size_t)1 << 30, &size);
    uint64_t seed = strtoull(argv[5], NULL, 10) * 2 + 1;
    int fd = memfd_create("archive", 0), count = atoi(argv[4]);
    if (!bytes || pwrite_all(fd, bytes, size, 0, "memory") < 0)
        return 3;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (asprintf(&target, "%s.target", argv[3]) < 0 || found_by_verify())
        return 3; /* as it is it must be whole */
    for (int i = 0; i < count && flips; i++) {
        int64_t bit = (int64_t)(next_random(&seed) % (size * 8));
        flip(fd, bytes, bit);
        try(verify, "bit", bit);
        if (pwrite(fd, bytes + bit / 8, 1, bit / 8) != 1)
            return 3;
    }
    int64_t last = !count ? (int64_t)size : verify ? 3072 : 16;
    for (int64_t i = 0; i < count + last && !flips; i++) {
        int64_t at = i < count ? (int64_t)(next_random(&seed) % size) : (int64_t)size - 1 - (i - count);
        if (at < 0 || ftruncate(fd, at) != 0)
            break;
        try(verify, "cut", at);
        if (pwrite_all(fd, bytes + at, size - (size_t)at, at, "memory") < 0)
            return 3;
    }
    printf("%d missed\n", missed);
    free(bytes);
    free(target);
    return missed != 0;
}

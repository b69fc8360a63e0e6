/* SPDX-License-Identifier: MIT */
/* Damages a whole step directory, one place at a time, and sees whether verify finds it.
 *
 *   ckpt-damage DIR FLIPS LENGTHS SEED [PART PARTS]
 *
 * FLIPS single bits, every other one of a file drawn by its size, the rest of any file alike; then each file
 * cut to LENGTHS lengths, or to every length that it can have where these are fewer. What is damaged is mended
 * before the next, and when the program is told to end. Of PARTS parts, each every PARTS-th place, one alone:
 * they may run beside each other, each on a copy. Prints how many there were, and how far it is, on standard
 * error, every few seconds. Exit: 0; 1 when one was not found, or its file not named in what was said of it;
 * else the error's status. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"
#include "ckpt/manifest.h"
#include "ckpt/names.h"
#include "ckpt/verify.h"

struct target {
    char *name, *path;
    int64_t bytes;
};

static struct target *targets;
static int target_count;
static int64_t all_bytes;
static const char *dir;
static int64_t part, parts = 1;
static int64_t places, flipped, cuts, missed; /* places: looked at and left to other parts */
static volatile sig_atomic_t told_to_end;

static void note_signal(int signal)
{
    told_to_end = signal;
}

/* Whether the next place is one of this part's: 1 or 0; -1 when there is to be none. */
static int mine(void)
{
    static double said;
    double now = now_s();
    if (told_to_end)
        return error(STATUS_ENV,
                     "told to end after %" PRId64 " bits and %" PRId64 " lengths, %" PRId64 " not found",
                     flipped, cuts, missed);
    if (said == 0)
        said = now;
    if (now - said > 10) {
        fprintf(stderr, "ckpt-damage: %" PRId64 " bits, %" PRId64 " lengths, %" PRId64 " not found\n", flipped,
                cuts, missed);
        said = now;
    }
    return places++ % parts == part;
}

static void add_target(const char *name, int64_t bytes)
{
    targets = xrealloc(targets, target_count + 1, sizeof *targets);
    targets[target_count++] = (struct target){xstrdup(name), path_join(dir, name), bytes};
    all_bytes += bytes;
}

static int list_targets(void)
{
    struct manifest m = {0};
    struct stat st;
    TRY(manifest_read(&m, dir));
    for (int i = 0; i < m.count; i++)
        add_target(m.files[i].name, m.files[i].bytes);
    manifest_release(&m);
    add_target(MANIFEST_FILE, 0);
    struct target *last = &targets[target_count - 1];
    if (stat(last->path, &st) != 0)
        return error_errno("cannot read '%s'", last->path);
    last->bytes = st.st_size;
    all_bytes += st.st_size;
    return 0;
}

static void expect_found(const struct target *t, const char *what, int64_t at)
{
    struct verified v = {0};
    bool named = false, refused = verify_dir(&v, dir) < 0;
    for (int i = 0; i < v.problems.count && i < MOST_PROBLEMS; i++)
        named = named || strstr(v.problems.list[i], t->name);
    if (!refused && !named && missed++ < 20)
        printf("%s %s %" PRId64 ": %s\n", t->name, what, at,
               v.problems.count ? v.problems.list[0] : "not found");
    verified_release(&v);
    error_clear();
}

static int flip(const struct target *t, int64_t bit)
{
    unsigned char byte;
    int fd = open(t->path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return error_errno("cannot write '%s'", t->path);
    int rc = pread_all(fd, &byte, 1, bit / 8, t->path);
    byte ^= (unsigned char)(1 << bit % 8);
    if (rc == 0)
        rc = pwrite_all(fd, &byte, 1, bit / 8, t->path);
    close(fd);
    return rc;
}

/* 0..below-1, the same for the same arguments: splitmix64's finalizer. */
static int64_t draw(uint64_t seed, int64_t i, int which, int64_t below)
{
    uint64_t x = seed * 0x9e3779b97f4a7c15u + (uint64_t)(3 * i + which);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (int64_t)((x ^ x >> 31) % (uint64_t)below);
}

static int flip_one(int64_t i, uint64_t seed)
{
    int64_t at = draw(seed, i, 0, all_bytes);
    const struct target *t = targets;
    for (; i % 2 && at >= t->bytes; t++)
        at -= t->bytes;
    if (i % 2 == 0)
        t = &targets[draw(seed, i, 1, target_count)];
    if (!t->bytes)
        return 0;
    int64_t bit = draw(seed, i, 2, 8 * t->bytes);
    TRY(flip(t, bit));
    expect_found(t, "bit", bit);
    flipped++;
    return flip(t, bit);
}

static int cut_one(const struct target *t, const char *whole, int64_t length)
{
    if (truncate(t->path, length) != 0)
        return error_errno("cannot write '%s'", t->path);
    expect_found(t, "cut to", length);
    cuts++;
    int fd = open(t->path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno("cannot write '%s'", t->path);
    int rc = pwrite_all(fd, whole + length, t->bytes - length, length, t->path);
    close(fd);
    return rc;
}

static int cut(const struct target *t, int64_t lengths)
{
    char *whole = file_read(t->path, (size_t)1 << 30, NULL);
    int64_t count = min64(lengths, t->bytes);
    int rc = whole ? 0 : -1;
    for (int64_t i = 0; i < count && rc >= 0; i++)
        if ((rc = mine()) > 0)
            rc = cut_one(t, whole, t->bytes * i / count);
    free(whole);
    return rc < 0 ? -1 : 0;
}

static int run(int64_t flips, int64_t lengths, uint64_t seed)
{
    TRY(list_targets());
    for (int64_t i = 0; i < flips; i++) {
        int rc = mine();
        TRY(rc > 0 ? flip_one(i, seed) : rc);
    }
    for (int i = 0; i < target_count; i++)
        TRY(cut(&targets[i], lengths));
    printf("%" PRId64 " bits flipped, %" PRId64 " lengths cut to, %" PRId64 " not found\n", flipped, cuts,
           missed);
    return missed ? error(STATUS_NO, "damage was not found") : 0;
}

int main(int argc, char **argv)
{
    if (argc != 5 && argc != 7)
        return STATUS_USAGE;
    dir = argv[1];
    if (argc == 7) {
        part = atoll(argv[5]);
        parts = max64(atoll(argv[6]), 1);
    }
    const struct sigaction act = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
    for (int i = 0; i < 3; i++)
        sigaction((const int[]){SIGINT, SIGTERM, SIGHUP}[i], &act, NULL);
    int rc = run(atoll(argv[2]), atoll(argv[3]), strtoull(argv[4], NULL, 10));
    if (rc < 0)
        fprintf(stderr, "ckpt-damage: %s\n", error_text());
    return rc < 0 ? (int)error_status() : 0;
}

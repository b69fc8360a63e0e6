/* SPDX-License-Identifier: MIT */
/* The codecs, part by part; and archives that nobody packed: each must be one clear line, and nothing is
 * written outside the target. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/file.h"
#include "base/memory.h"
#include "lib/unit.h"
#include "pack/codec.h"
#include "pack/experts.h"
#include "pack/index.h"
#include "pack/restore.h"
#include "pack/tape.h"
#include "tensors/sum.h"

static char *folder;

static char *in_folder(const char *name)
{
    return path_join(folder, name);
}

static int make_folder(void **state)
{
    folder = xstrdup("/tmp/moekit-archive-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    int rc = remove_tree(folder);
    free(folder);
    return rc;
}

/* ---- parts ---- */

/* What comes back is what went in, in all mixtures of runs, with bytes of `spread` different values. */
static void round_trip(enum codec codec, int64_t n, int spread, uint64_t *seed)
{
    struct split_run runs[64];
    int64_t count = 0, most = split_most_runs(n), left = n;
    uint8_t *raw = xmalloc((size_t)n + 1), *back = xmalloc((size_t)n + 1);
    uint8_t *packed = xmalloc((size_t)codec_bound(codec, n));
    struct coder *c = coder_new(codec, n);
    uint32_t crc = 0;
    for (int64_t i = 0; i < n; i++)
        raw[i] = (uint8_t)(next_random(seed) % (uint64_t)spread);
    while (left > 0 && count < most && count < 64) {
        int width = 1 << next_random(seed) % 3, kind = width == 4 ? (int)(next_random(seed) % SPLIT_KINDS) : 0;
        int64_t bytes = (int64_t)(next_random(seed) % (uint64_t)left) / width * width;
        if (count == most - 1 || count == 63 || bytes == 0)
            bytes = left, width = 1, kind = 0;
        runs[count++] = (struct split_run){bytes, width, kind};
        left -= bytes;
    }
    int64_t m = coder_encode(c, raw, n, sum_bytes(0, raw, n), runs, count, packed);
    assert_in_range(m, 1, codec_bound(codec, n));
    assert_int_equal(coder_decode(c, packed, m, back, n, &crc), 0);
    assert_memory_equal(raw, back, n);
    assert_int_equal(crc, sum_bytes(0, raw, n));
    assert_int_equal(coder_decode(c, packed, m - 1, back, n, &crc), -1);
    if (n)
        assert_int_equal(coder_decode(c, packed, m, back, n - 1, &crc), -1);
    packed[next_random(seed) % (uint64_t)m] ^= 1 << next_random(seed) % 8; /* found, or of no meaning */
    if (coder_decode(c, packed, m, back, n, &crc) == 0)
        assert_memory_equal(raw, back, n);
    coder_free(c);
    free(raw);
    free(back);
    free(packed);
}

static void parts_come_back(void **state)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 5, 63, 64, 1000, 4096, 70001, 300000};
    static const int spreads[] = {1, 2, 20, 256};
    uint64_t seed = 4711;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int i = 0; i < 4; i++)
            for (int again = 0; again < 4; again++) {
                round_trip(CODEC_SPLIT, sizes[s], spreads[i], &seed);
                round_trip(CODEC_GZIP, sizes[s], spreads[i], &seed);
            }
}

static void exponents_reach_their_entropy(void **state)
{
    enum { N = 1 << 20 };
    uint64_t seed = 1;
    uint8_t *raw = xmalloc(2 * N), *packed = xmalloc((size_t)codec_bound(CODEC_SPLIT, 2 * N));
    for (int i = 0; i < N; i++) { /* near enough to normal */
        double sum = 0;
        for (int k = 0; k < 12; k++)
            sum += (double)(next_random(&seed) >> 11) * 0x1p-53;
        float f = (float)((sum - 6) * 0.02);
        memcpy(raw + 2 * i, (char *)&f + 2, 2);
    }
    struct coder *c = coder_new(CODEC_SPLIT, 2 * N);
    struct split_run run = {2 * N, 2};
    int64_t m = coder_encode(c, raw, 2 * N, 0, &run, 1, packed);
    assert_in_range(m, 1, 2 * N * 663 / 1000);
    coder_free(c);
    free(raw);
    free(packed);
}

/* ---- a crew ---- */

struct counted {
    struct crew_job job;
    int i, result;
};

static int square(void *with, void *job, int hand)
{
    struct counted *c = job;
    c->result = c->i * c->i;
    return c->i == *(int *)with ? error(STATUS_USAGE, "at %d", c->i) : 0;
}

static void jobs_come_back_in_order(void **state)
{
    for (int threads = 1; threads <= 4; threads++) {
        int bad = 600, next = 0;
        struct counted *c;
        struct crew *crew = crew_start(threads, threads + 1, sizeof *c, square, &bad);
        for (int i = 0; i < 1000; i++) {
            while (!(c = crew_slot(crew))) {
                c = crew_wait(crew);
                assert_int_equal(c->result, next * next);
                assert_int_equal(c->job.failed, next == bad);
                next++;
                crew_free(crew);
            }
            c->i = i;
            crew_submit(crew);
        }
        crew_release(crew);
        assert_in_range(next, 990, 1000);
    }
}

/* ---- choices ---- */

static void choices(void **state)
{
    static const char *const bad[] = {"", "1,", "a", "3-1", "1:2:3", ":1", "1:", "-1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_null(experts_parse("--experts", bad[i]));
    struct expert_choice *c = experts_parse("--experts", "3,8-9,2:5");
    assert_true(experts_overlap(c, "0-3", "0"));
    assert_false(experts_overlap(c, "4-7", "0-1"));
    assert_true(experts_overlap(c, "4-7", "0-2"));
    assert_true(experts_overlap(c, "9", "5"));
    experts_free(c);
}

/* ---- archives that nobody packed ---- */

struct made_up {
    const char *index;
    struct {
        const char *name, *text;
    } members[4];
};

#define START "moe-archive 1\npack codec=none part-bytes=4096\n"
#define STAMP " mode=644 mtime=1 ns=0\n"
/* crc32 of "abc" */
#define ABC(name) "file " name " bytes=3 crc32=352441c2" STAMP

static char *write_archive(const struct made_up *x)
{
    char *path = in_folder("made-up.tar");
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    struct tape_writer *w = tape_create(fd, path, false);
    assert_non_null(w);
    if (x->index) {
        assert_int_equal(tape_member(w, INDEX_MEMBER, (int64_t)strlen(x->index), 0644, 1, 0), 0);
        assert_int_equal(tape_write(w, x->index, (int64_t)strlen(x->index)), 0);
    }
    for (int i = 0; i < 4 && x->members[i].name; i++) {
        int64_t n = (int64_t)strlen(x->members[i].text);
        assert_int_equal(tape_member(w, x->members[i].name, n, 0644, 1, 0), 0);
        assert_int_equal(tape_write(w, x->members[i].text, n), 0);
    }
    assert_int_equal(tape_finish(w, NULL), 0);
    close(fd);
    return path;
}

/* verify says `why` in one line, and restore fails for the same reason and writes nothing; NULL: all is
 * well. */
static void judge(const char *path, const char *why)
{
    struct verified v;
    struct restored done;
    char about[160], *target = in_folder("target");
    assert_int_equal(verify_archive(&v, path, 2, about), 0);
    if (why && (v.problems.count != 1 || !strstr(v.problems.list[0], why)))
        fail_msg("'%s', not '%s'", v.problems.count ? v.problems.list[0] : "nothing", why);
    if (!why && v.problems.count)
        fail_msg("'%s'", v.problems.list[0]);
    verified_release(&v);
    const struct restore_request r = {.archive = path, .dir = target, .threads = 2};
    assert_int_equal(restore_archive(&r, &done), why ? -1 : 0);
    if (why)
        assert_int_equal(error_status(), STATUS_USAGE);
    assert_int_equal(file_exists(target), !why);
    assert_int_equal(remove_tree(target), 0);
    free(target);
}

static void made_up_archives(void **state)
{
    static const struct {
        struct made_up archive;
        const char *why;
    } all[] = {
        {{START ABC("a"), {{"a", "abc"}}}, NULL},
        {{START ABC("d/a") ABC("d/b"), {{"d/a", "abc"}, {"d/b", "abc"}}}, NULL},
        {{NULL, {{"a", "abc"}}}, "does not begin with an index"},
        {{"", {{"a", "abc"}}}, "not the index"},
        {{START, {{NULL}}}, "names no files"},
        {{"moe-archive 1\n" ABC("a"), {{"a", "abc"}}}, "'file' before 'pack'"},
        {{START ABC("../a"), {{"../a", "abc"}}}, "leads out of the directory"},
        {{START ABC("x/../../a"), {{"x/../../a", "abc"}}}, "leads out of the directory"},
        {{START ABC("/tmp/a"), {{"/tmp/a", "abc"}}}, "leads out of the directory"},
        {{START ABC("x//a"), {{"x//a", "abc"}}}, "leads out of the directory"},
        {{START ABC("."), {{".", "abc"}}}, "leads out of the directory"},
        {{START ABC(INDEX_MEMBER), {{INDEX_MEMBER, "abc"}}}, "leads out of the directory"},
        {{START "dir .." STAMP ABC("a"), {{"a", "abc"}}}, "leads out of the directory"},
        {{START ABC("a") ABC("a"), {{"a", "abc"}, {"a", "abc"}}}, "two files called 'a'"},
        {{START ABC("a") ABC("a/b"), {{"a", "abc"}, {"a/b", "abc"}}}, "lies in a file"},
        {{START "dir a" STAMP ABC("a"), {{"a", "abc"}}}, "two of the name 'a'"},
        {{START ABC("a") ABC("b"), {{"b", "abc"}, {"a", "abc"}}}, "'b' stands where its index has 'a'"},
        {{START ABC("a"), {{"a", "abc"}, {"b", "abc"}}}, "a member that its index does not name"},
        {{START ABC("a") ABC("b"), {{"a", "abc"}}}, "stands where its index has 'b'"},
        {{START ABC("a"), {{"a", "abd"}}}, "comes out with crc32"},
        {{START ABC("a"), {{"a", "abcd"}}}, "has 4 bytes, not 3"},
        {{START "file a bytes=9223372036854775807 crc32=00000000" STAMP, {{"a", "abc"}}}, "bytes"},
        {{START "file a bytes=1152921504606846976 crc32=00000000" STAMP, {{"a", "abc"}}}, "has 3 bytes"},
        {{START "file a bytes=3 crc32=352441c2 mode=4755 mtime=1 ns=0\n", {{"a", "abc"}}},
         "three octal digits"},
        {{START "file a bytes=3 crc32=352441c2 mode=-55 mtime=1 ns=0\n", {{"a", "abc"}}}, "three octal digits"},
        {{START "what a\n" ABC("a"), {{"a", "abc"}}}, "an unknown record"},
        {{START "pack codec=none part-bytes=4096\n" ABC("a"), {{"a", "abc"}}}, "a second record"},
        {{"moe-archive 1\npack codec=split part-bytes=4096\n" ABC("a"), {{"a.part-000000.split", "abc"}}},
         "does not begin as one"},
        {{"moe-archive 1\npack codec=gzip part-bytes=4096\n" ABC("a"), {{"a.part-000000.gz", "abc"}}},
         "not a gzip file"},
        {{"moe-archive 1\npack codec=gzip part-bytes=1\n" ABC("a"), {{"a.part-000000.gz", "abc"}}},
         "part-bytes"},
        {{"moe-archive 1\npack codec=split part-bytes=4096\n" ABC("a") "made begin=0 end=2 file=7 at=0\n",
          {{"a.part-000000.split", "abc"}}},
         "made from what is not there"},
        {{"moe-archive 1\npack codec=split part-bytes=4096\n" ABC("a") "made begin=0 end=2 file=0 at=0\n",
          {{"a.part-000000.split", "abc"}}},
         "made from what is not there"},
        {{"moe-archive 1\npack codec=split part-bytes=4096\n" ABC("a") "xor begin=0 end=2 file=b at=0\n",
          {{"a.part-000000.split", "abc"}}},
         "no base"},
        {{"moe-archive 1\npack codec=split part-bytes=4096\nbase name=x sum=00000000\n" ABC(
              "a") "xor begin=0 end=2 file=../b at=0\n",
          {{"a.part-000000.split", "abc"}}},
         "leads out of the base"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        char *path = write_archive(&all[i].archive);
        judge(path, all[i].why);
        free(path);
    }
}

/* A member of another kind: its header says so, and the header's own checksum is right. */
static void no_regular_file(char type)
{
    struct made_up x = {START ABC("a"), {{"a", "abc"}}};
    char *path = write_archive(&x), header[512];
    size_t size;
    char *bytes = file_read(path, 1 << 20, &size);
    int fd = open(path, O_RDWR);
    int64_t at = 512 + (int64_t)(strlen(START ABC("a")) + 511) / 512 * 512;
    memcpy(header, bytes + at, 512);
    assert_string_equal(header, "a");
    header[156] = type;
    strcpy(header + 157, "/etc/passwd"); /* where a link leads */
    memset(header + 148, ' ', 8);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)header[i];
    snprintf(header + 148, 8, "%06o", sum);
    assert_int_equal(pwrite_all(fd, header, 512, at, path), 0);
    close(fd);
    judge(path, "");
    free(bytes);
    free(path);
}

static void links_and_devices(void **state)
{
    for (const char *type = "123456"; *type; type++)
        no_regular_file(*type);
}

/* An index of 16 MiB and more is refused before it is read; so is one that is for a later moekit. */
static void large_and_later(void **state)
{
    size_t n = (size_t)MAX_INDEX_BYTES + 1;
    char *text = xmalloc(n + 1), about[160];
    memset(text, '#', n);
    text[n] = '\0';
    struct made_up x = {text, {{NULL}}};
    char *path = write_archive(&x);
    judge(path, "its index is too large");
    free(path);
    for (size_t i = 1; i < 20000; i += 2)
        text[i] = ' ';
    text[20000] = '\0';
    path = write_archive(&x);
    judge(path, "a record is longer than");
    free(text);
    free(path);
    struct made_up later = {"moe-archive 2\nnovelty\n", {{NULL}}};
    struct verified v;
    path = write_archive(&later);
    assert_int_equal(verify_archive(&v, path, 1, about), -1);
    assert_non_null(strstr(error_text(), "a newer moekit is needed"));
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_come_back),         cmocka_unit_test(exponents_reach_their_entropy),
        cmocka_unit_test(jobs_come_back_in_order), cmocka_unit_test(choices),
        cmocka_unit_test(made_up_archives),        cmocka_unit_test(links_and_devices),
        cmocka_unit_test(large_and_later),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}

/* SPDX-License-Identifier: MIT */
/* Files: what is synced and whose errors count, what an output may replace, the step log's line on disk.
 * fsync() is the test's own here. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/copy.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/pages.h"
#include "train/log.h"

static int fsync_errno, files_synced, directories_synced;
static char *dir; /* each test has one of its own */

int fsync(int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return -1;
    files_synced += S_ISREG(st.st_mode);
    directories_synced += S_ISDIR(st.st_mode);
    errno = S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? fsync_errno : EINVAL;
    return errno ? -1 : 0;
}

static int setup(void **state)
{
    static char name[64];
    strcpy(name, "/tmp/files-XXXXXX");
    dir = mkdtemp(name);
    fsync_errno = files_synced = directories_synced = 0;
    return dir ? 0 : -1;
}

static int teardown(void **state)
{
    return remove_tree(dir);
}

/* A path in it; good until the next call but three. */
static const char *in(const char *name)
{
    static char paths[4][128];
    static int next;
    char *p = paths[next++ % 4];
    snprintf(p, sizeof paths[0], "%s/%s", dir, name);
    return p;
}

static int put(const char *path, const char *text)
{
    struct output o;
    if (output_open(&o, path) < 0)
        return -1;
    fputs(text, o.stream);
    return output_commit(&o);
}

static void holds(const char *path, const char *text)
{
    char *is = file_read(path, 1000, NULL);
    assert_non_null(is);
    assert_string_equal(is, text);
    free(is);
}

/* ---- sync ---- */

static void errors_of_sync(void **state)
{
    int ends[2], fd = open(in("f"), O_CREAT | O_RDWR, 0666), null = open("/dev/null", O_WRONLY);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(file_sync(ends[1], "pipe"), 0);
    assert_int_equal(file_sync(null, "null"), 0);
    assert_int_equal(file_sync(fd, "f"), 0);
    static const int errors[] = {EIO, ENOSPC, EDQUOT, EROFS, EINVAL};
    for (int i = 0; i < 5; i++) {
        fsync_errno = errors[i];
        int want = errors[i] == EROFS || errors[i] == EINVAL ? 0 : -1;
        assert_int_equal(file_sync(fd, "f"), want);
        assert_int_equal(sync_dir(dir), want);
        if (want < 0)
            assert_int_equal(error_status(), STATUS_ENV);
    }
    close(fd);
    close(null);
    close(ends[0]);
    close(ends[1]);
}

static void parents_are_synced(void **state)
{
    assert_int_equal(put(in("out"), "x"), 0);
    assert_int_equal(files_synced, 1);
    assert_int_equal(directories_synced, 1);
    directories_synced = 0;
    assert_int_equal(make_dirs(in("a/b/c")), 0);
    assert_int_equal(directories_synced, 3);
    assert_int_equal(make_dirs(in("a/b/c")), 0);
    assert_int_equal(directories_synced, 3); /* nothing was made */
    fsync_errno = EIO;
    assert_int_equal(make_dirs(in("a/b/d")), -1);
}

static void parents(void **state)
{
    static const char *const cases[][2] = {{"a", "."},         {"a/b", "a"},  {"/a", "/"},  {"/", "/"},
                                           {"a/b/", "a"},      {"a//b", "a"}, {"./a", "."}, {"../a/b", "../a"},
                                           {"/a/b/c", "/a/b"}, {"a/", "."}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *is = path_parent(cases[i][0]);
        assert_string_equal(is, cases[i][1]);
        free(is);
    }
}

/* ---- outputs ---- */

static void failed_sync_keeps_the_old_file(void **state)
{
    assert_int_equal(put(in("f"), "old"), 0);
    fsync_errno = EIO;
    assert_int_equal(put(in("f"), "new"), -1);
    holds(in("f"), "old");
}

/* A command that works for long asks first: as output_open() would answer, and nothing is there afterwards. */
static void outputs_that_cannot_be(void **state)
{
    const char *bad[] = {dir, in("none/f"), "", in("f/g"), "/dev/fd/987"};
    assert_int_equal(put(in("f"), "before"), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct output o;
        assert_int_equal(output_check(bad[i]), -1);
        char *said = xstrdup(error_text());
        assert_int_equal(output_open(&o, bad[i]), -1);
        assert_string_equal(said, error_text());
        free(said);
    }
    const char *good[] = {NULL, "-", "/dev/null", "/dev/stdout", in("f"), in("new")};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(output_check(good[i]), 0);
    holds(in("f"), "before");
    assert_int_equal(remove(in("f")), 0);
    assert_int_equal(mkfifo(in("f"), 0666), 0);
    assert_int_equal(output_check(in("f")), 0); /* and nobody has opened its other end */
    assert_int_equal(log_check(in("none/f")), -1);
    assert_int_equal(log_check(dir), -1);
    assert_int_equal(log_check(in("new")), 0);
    assert_int_equal(remove(in("f")), 0);
    assert_int_equal(rmdir(dir), 0); /* it is empty */
    assert_int_equal(mkdir(dir, 0777), 0);
}

static void links_stay_links(void **state)
{
    char to[128];
    assert_int_equal(put(in("real"), "old"), 0);
    assert_int_equal(symlink("real", in("link")), 0);
    assert_int_equal(symlink("not-yet", in("dangling")), 0);
    assert_int_equal(symlink("round", in("round")), 0);
    assert_int_equal(put(in("link"), "new"), 0);
    assert_int_equal(readlink(in("link"), to, sizeof to), 4);
    holds(in("real"), "new");
    assert_int_equal(put(in("dangling"), "new"), 0);
    holds(in("not-yet"), "new");
    assert_int_equal(put(in("round"), "new"), -1);
}

static void mode_is_kept(void **state)
{
    struct stat st;
    assert_int_equal(put(in("f"), "old"), 0);
    assert_int_equal(chmod(in("f"), 0640), 0);
    assert_int_equal(put(in("f"), "new"), 0);
    assert_int_equal(stat(in("f"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
}

static void others_are_written_in_place(void **state)
{
    struct stat st;
    char buf[8] = {0};
    assert_int_equal(mkfifo(in("fifo"), 0666), 0);
    int reader = open(in("fifo"), O_RDONLY | O_NONBLOCK);
    assert_int_equal(put(in("fifo"), "text"), 0);
    assert_int_equal(read(reader, buf, 8), 4);
    close(reader);
    assert_int_equal(stat(in("fifo"), &st), 0);
    assert_true(S_ISFIFO(st.st_mode));
    assert_int_equal(symlink("/dev/null", in("device")), 0); /* a link, lest a failure harm the host */
    assert_int_equal(put(in("device"), "text"), 0);
    assert_int_equal(stat(in("device"), &st), 0);
    assert_true(S_ISCHR(st.st_mode));
    int fd = open(in("f"), O_CREAT | O_RDWR, 0666);
    assert_int_equal(write(fd, "before ", 7), 7);
    char name[32];
    snprintf(name, sizeof name, "/dev/fd/%d", fd);
    assert_int_equal(put(name, "after"), 0);
    holds(in("f"), "before after");
    close(fd);
}

/* ---- the step log ---- */

static void log_on_disk(void **state)
{
    struct log l;
    assert_int_equal(log_open(&l, in("log")), 0);
    assert_int_equal(directories_synced, 1);
    assert_int_equal(log_write(&l, json_pack("{s:s}", "kind", "start")), 0);
    assert_int_equal(files_synced, 1);
    fsync_errno = EIO;
    assert_int_equal(log_write(&l, json_pack("{s:s}", "kind", "step")), -1);
    assert_int_equal(error_status(), STATUS_ENV);
    fsync_errno = 0;
    assert_int_equal(log_write(&l, NULL), -1); /* json_pack() made nothing */
    assert_int_equal(log_close(&l), 0);
    assert_int_equal(log_open(&l, in("log")), 0);
    assert_int_equal(directories_synced, 1); /* its name is not new */
    log_close(&l);
    assert_int_equal(log_open(&l, "/dev/null"), 0);
    assert_int_equal(log_write(&l, json_pack("{s:s}", "kind", "start")), 0);
    log_close(&l);
}

/* What a full disk takes of a record is taken back: the next one is whole. */
static void log_on_a_full_disk(void **state)
{
    struct rlimit full, was;
    struct log l;
    assert_int_equal(log_open(&l, in("log")), 0);
    assert_int_equal(log_write(&l, json_pack("{s:i}", "step", 1)), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &was);
    full = was;
    full.rlim_cur = 15;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    assert_int_equal(log_write(&l, json_pack("{s:i}", "step", 2)), -1);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_int_equal(error_status(), STATUS_ENV);
    holds(in("log"), "{\"step\":1}\n");
    assert_int_equal(log_write(&l, json_pack("{s:i}", "step", 3)), 0);
    holds(in("log"), "{\"step\":1}\n{\"step\":3}\n");
    log_close(&l);
    FILE *f = fopen(in("log"), "a");
    fputs("{\"st", f);
    fclose(f);
    assert_int_equal(log_open(&l, in("log")), 0); /* a run that was killed left half a line */
    assert_int_equal(log_write(&l, json_pack("{s:i}", "step", 4)), 0);
    holds(in("log"), "{\"step\":1}\n{\"step\":3}\n{\"st\n{\"step\":4}\n");
    log_close(&l);
}

/* ---- bytes into JSON ---- */

#define R "\xef\xbf\xbd"

static void bytes_become_strings(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"plain", "plain"},
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"latin1 \xfc", "latin1 " R},
        {"cut \xc3", "cut " R},
        {"cut \xe2\x82", "cut " R R},
        {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"overlong \xc0\xaf \xe0\x80\xaf", "overlong " R R " " R R R},
        {"surrogate \xed\xa0\x80", "surrogate " R R R},
        {"beyond \xf4\x90\x80\x80 \xf8", "beyond " R R R R " " R},
        {"quote \" \\ \n", "quote \" \\ \n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *s = json_bytes(cases[i][0]);
        assert_non_null(s);
        assert_string_equal(json_string_value(s), cases[i][1]);
        assert_int_equal(utf8_valid(cases[i][0]), strcmp(cases[i][0], cases[i][1]) == 0);
        json_decref(s);
    }
}

/* Past the page cache or not, in order or not in memory: what is written is there, and nothing around it. */
static void pages(void **state)
{
    const int64_t page = page_bytes(), size = 6 * page,
                  cuts[] = {0, 1, 511, page - 1, page, page + 1, 3 * page};
    char *from = xaligned((size_t)page, (size_t)(size + page)), *file = xmalloc((size_t)size),
         *back = xmalloc((size_t)size);
    int fd = open(in("f"), O_RDWR | O_CREAT, 0666), direct[] = {-1, open(in("f"), O_WRONLY | O_DIRECT)};
    for (int i = 0; i < size + page; i++)
        from[i] = (char)(i * 7 + i / 251);
    memset(file, 0, (size_t)size);
    assert_int_equal(ftruncate(fd, size), 0);
    for (int a = 0; a < 7; a++)
        for (int b = 0; b < 7; b++)
            for (int how = 0; how < 4; how++) {
                int64_t at = cuts[a], n = cuts[b];
                char *p = from + (at + (how & 2 ? 1 : 0)) % page;
                memcpy(file + at, p, (size_t)n);
                assert_int_equal(pwrite_direct(fd, direct[how & 1], p, (size_t)n, at, "f"), 0);
                assert_int_equal(pread_all(fd, back, (size_t)size, 0, "f"), 0);
                assert_memory_equal(back, file, size);
                from[at] ^= (char)(1 + how);
            }
    close(fd);
    if (direct[1] >= 0)
        close(direct[1]);
    free(back);
    free(file);
    free(from);
}

/* A file whose end is within a page, read past the page cache, or from it, in whole or in part: the same bytes,
 * and a read past its end is an error. Each byte is as far into a page in memory as in the file. */
static void pages_read(void **state)
{
    const int64_t page = page_bytes(), size = 5 * page + 77,
                  cuts[] = {0, 1, page - 1, page, 2 * page + 5, size};
    const char *path = in("f");
    struct paged_file f = {.fd = -1};
    char *file = xmalloc((size_t)size), *to = huge_alloc(HUGE_PAGE);
    for (int i = 0; i < size; i++)
        file[i] = (char)(i * 7 + i / 251);
    int fd = open(path, O_WRONLY | O_CREAT, 0666);
    assert_int_equal(pwrite_all(fd, file, (size_t)size, 0, path), 0);
    assert_int_equal(fdatasync(fd), 0); /* what is not on the disk stays in the page cache */
    close(fd);
    assert_int_equal(paged_open(&f, path), 0);
    int64_t before = file_bytes_read(), read = 0;
    for (int how = 0; how < 3; how++) /* nothing, the first pages or all of it in the page cache */
        for (int a = 0; a < 6; a++)
            for (int b = a + 1; b < 6; b++) {
                int64_t at = cuts[a], n = cuts[b] - at;
                char *p = to + at % page;
                assert_int_equal(posix_fadvise(f.fd, 0, 0, POSIX_FADV_DONTNEED), 0);
                if (how)
                    read += how == 1 ? page : size;
                if (how)
                    assert_int_equal(pread_all(f.fd, to, (size_t)(how == 1 ? page : size), 0, path), 0);
                memset(to, 0, (size_t)(size + 2 * page));
                assert_int_equal(paged_read(&f, p, (size_t)n, at), 0);
                assert_memory_equal(p, file + at, n);
                read += n;
                assert_int_equal(pread_direct(f.fd, f.direct, p, (size_t)n, at, path), 0);
                assert_memory_equal(p, file + at, n);
                read += n;
            }
    assert_int_equal(file_bytes_read() - before, read);
    assert_int_equal(pread_direct(f.fd, f.direct, to + 77, (size_t)page, 5 * page + 77, path), -1);
    assert_int_equal(pread_direct(f.fd, f.direct, to, (size_t)page, 5 * page, path), -1);
    assert_non_null(strstr(error_text(), "bytes short"));
    assert_int_equal(paged_open(&f, in("none")), -1);
    paged_close(&f);
    huge_free(to, HUGE_PAGE);
    free(file);
}

static void copies(void **state)
{
    char from[700], to[700], want[700];
    for (int i = 0; i < 700; i++)
        from[i] = (char)(i * 7 + i / 251);
    for (int at = 0; at < 70; at++)
        for (int n = 0; n < 300; n += 1 + n / 7) {
            memset(to, 1, sizeof to);
            memset(want, 1, sizeof want);
            memcpy(want + at, from + n % 67, (size_t)n);
            copy_through(to + at, from + n % 67, n);
            assert_memory_equal(to, want, sizeof to);
        }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(errors_of_sync),
        CASE(parents_are_synced),
        CASE(parents),
        CASE(failed_sync_keeps_the_old_file),
        CASE(outputs_that_cannot_be),
        CASE(links_stay_links),
        CASE(mode_is_kept),
        CASE(others_are_written_in_place),
        CASE(log_on_disk),
        CASE(log_on_a_full_disk),
        CASE(bytes_become_strings),
        CASE(pages),
        CASE(pages_read),
        CASE(copies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

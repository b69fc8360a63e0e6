/* SPDX-License-Identifier: MIT */
#include "stat/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "stat/scan.h"

/* All of what comes through a pipe, to a file. */
static int copy(struct log_source *s, int from)
{
    char buffer[1 << 16];
    ssize_t n;
    if ((s->fd = file_nameless()) < 0)
        return error_errno("cannot make a temporary file for %s ($TMPDIR)", s->path);
    while ((n = read(from, buffer, sizeof buffer)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno("cannot read '%s'", s->path);
        for (ssize_t done = 0, m; done < n; done += m)
            if ((m = write(s->fd, buffer + done, (size_t)(n - done))) < 0 && (errno != EINTR || (m = 0)))
                return error_errno("cannot keep %s in a temporary file ($TMPDIR)", s->path);
        s->bytes += n;
    }
    return 0;
}

int log_source_open(struct log_source *s, const char *path)
{
    bool is_stdin = strcmp(path, "-") == 0;
    struct stat st;
    if (is_stdin)
        TRY(stdin_take());
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC), r = 0;
    *s = (struct log_source){.path = is_stdin ? "stdin" : path, .fd = -1};
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_errno("cannot open '%s'", path);
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        return error(STATUS_USAGE, "'%s' is a directory, not a log", path);
    }
    if (S_ISREG(st.st_mode) && (!is_stdin || lseek(fd, 0, SEEK_CUR) == 0)) {
        s->fd = fd;
        s->bytes = st.st_size;
        return 0;
    }
    r = copy(s, fd);
    if (!is_stdin)
        close(fd);
    if (r < 0)
        log_source_close(s);
    return r;
}

void log_source_close(struct log_source *s)
{
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    s->fd = -1;
}

int64_t log_source_read(const struct log_source *s, void *to, int64_t bytes, int64_t at)
{
    int64_t done = 0;
    while (done < bytes) {
        ssize_t n = pread(s->fd, (char *)to + done, (size_t)(bytes - done), at + done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_errno("cannot read '%s'", s->path);
        if (n == 0)
            break;
        done += n;
    }
    return done;
}

/* ---- lines ---- */

/* What is there, at `have`, is read on up to `want`, and padded. */
static int read_on(const struct log_source *s, struct log_lines *l, int64_t from, int64_t *have, int64_t want)
{
    if (l->room < want + 1 + SCAN_PADDING) {
        l->room = want + 1 + SCAN_PADDING;
        l->text = xrealloc(l->text, (size_t)l->room, 1);
    }
    int64_t n = log_source_read(s, l->text + *have, want - *have, from + *have);
    if (n < 0)
        return -1;
    *have += n;
    memset(l->text + *have, 0, 1 + SCAN_PADDING);
    return 0;
}

int log_source_lines(const struct log_source *s, int64_t i, struct log_lines *l)
{
    int64_t from = i * PIECE - (i > 0), have = 0, end = min64((i + 1) * PIECE, s->bytes) - from;
    l->bytes = l->at = 0;
    l->cut = false;
    l->dropped = 0;
    TRY(read_on(s, l, from, &have, end));
    const char *before = i > 0 ? memchr(l->text, '\n', (size_t)have) : NULL;
    int64_t skip = before ? before + 1 - l->text : 0, last = have;
    if ((i > 0 && !before) || skip >= have)
        return 0; /* a line that began before, and what ends it or does not */
    /* The last line that begins here may end further on. */
    while (last > skip && l->text[last - 1] != '\n')
        last--;
    const char *feed = last == have ? l->text + have - 1 : NULL;
    for (int64_t looked = have; !feed && from + have < s->bytes && have - last <= MAX_LINE_BYTES;
         looked = have) {
        TRY(read_on(s, l, from, &have, min64(2 * have, s->bytes - from)));
        feed = memchr(l->text + looked, '\n', (size_t)(have - looked));
        if (have == looked)
            break; /* shorter than it was */
    }
    if (feed) {
        have = feed + 1 - l->text;
    } else if (have - last > MAX_LINE_BYTES) {
        have = last;
        l->dropped = 1;
    } else {
        l->text[have++] = '\n';
        l->cut = true;
    }
    memset(l->text + have, 0, SCAN_PADDING);
    memmove(l->text, l->text + skip, (size_t)(have - skip + SCAN_PADDING));
    l->bytes = have - skip;
    l->at = from + skip;
    return 0;
}

void log_lines_release(struct log_lines *l)
{
    free(l->text);
    *l = (struct log_lines){0};
}

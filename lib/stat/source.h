/* SPDX-License-Identifier: MIT */
/* Logs as bytes that can be read at any place, by several threads; a pipe is first copied to a file without a
 * name in $TMPDIR (/tmp). A log that is still written has the length that it had when it was opened. */
#ifndef STAT_SOURCE_H
#define STAT_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_source {
    const char *path; /* for messages: the caller's, or "stdin" */
    int fd;
    int64_t bytes;
};

/* `-`: stdin. 0, or -1 with error() set. */
int log_source_open(struct log_source *s, const char *path);
void log_source_close(struct log_source *s);
/* Up to `bytes` at this place: fewer at the end alone. -1 with error() set. */
int64_t log_source_read(const struct log_source *s, void *to, int64_t bytes, int64_t at);

/* Lines of a source, in pieces that threads read at once. A line belongs to the piece in which it begins. */
enum { PIECE = 1 << 20 };
struct log_lines {
    char *
        text; /* [bytes] lines, each with its line feed, the last one too; SCAN_PADDING readable bytes follow */
    int64_t bytes, at; /* where they are in the source */
    bool cut;          /* the last line had no line feed, and has been given one */
    size_t dropped;    /* lines longer than MAX_LINE_BYTES, which are not here */
    int64_t room;
};
/* Those of piece i, of ceil(bytes/PIECE). Zeroed at first. 0, or -1 with error() set. */
int log_source_lines(const struct log_source *s, int64_t i, struct log_lines *l);
void log_lines_release(struct log_lines *l);

#endif

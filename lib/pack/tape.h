/* SPDX-License-Identifier: MIT */
/* A tar that vouches for itself: the last member is SUM_MEMBER (pack/index.h), one block that says
 *
 *     crc32=89abcdef bytes=123456789
 *
 * of every byte before that member's header. Its own 1024 bytes are always the same for the same sum, and after
 * it come at least 1024 zeros and nothing else: so no bit can change, and nothing can be cut off, unseen. The
 * only files here that know libarchive. */
#ifndef PACK_TAPE_H
#define PACK_TAPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- writing ---- */

struct tape_writer;

/* To a descriptor that stays the caller's; `path` is for messages. any_names: members' names need not be ASCII.
 * NULL with error(). */
struct tape_writer *tape_create(int fd, const char *path, bool any_names);
/* Begins a regular file of so many bytes, which tape_write() must then get. mtime in seconds and
 * nanoseconds. */
int tape_member(struct tape_writer *w, const char *name, int64_t bytes, int mode, int64_t mtime, int ns);
int tape_write(struct tape_writer *w, const void *p, int64_t bytes);
/* The sum and the end. The writer is then gone. *bytes (or NULL): of all. */
int tape_finish(struct tape_writer *w, int64_t *bytes);
void tape_abandon(struct tape_writer *w); /* NULL is fine */

/* ---- reading ---- */

struct tape_reader;

/* Of a file, or `-`: stdin. NULL with error(). */
struct tape_reader *tape_open(const char *path);
void tape_close(struct tape_reader *r);
/* The next member, a regular file: 1, its name (good until the next call) and bytes; 0 at the sum, which
 * then has been compared, with all that follows it, unless something was skipped; -1, status 2 for what
 * is no such tar (links, devices, holes, a sum that is wrong or missing), 3 where it cannot be read. What
 * was not read of the member before is passed over: in a file without being read. */
int tape_next(struct tape_reader *r, const char **name, int64_t *bytes);
/* The member's next bytes where they lie, good until the next call: 1; 0 after the last. */
int tape_data(struct tape_reader *r, const void **p, int64_t *bytes);
/* The member's next `bytes` bytes to p; fewer left: -1. */
int tape_read(struct tape_reader *r, void *p, int64_t bytes);
/* From now on members may be passed over without being read, where the file allows it; the sum cannot be
 * compared then. */
void tape_may_skip(struct tape_reader *r);
bool tape_skipped(const struct tape_reader *r);
int64_t tape_bytes_read(const struct tape_reader *r);
int64_t tape_size(const struct tape_reader *r); /* of the file; 0 for a pipe */

#endif

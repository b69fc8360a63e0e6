/* SPDX-License-Identifier: MIT */
/* The files' side of a load: a unit read and summed. It touches files and nothing else: no communication, no
 * device; so threads of a crew do it. */
#ifndef CKPT_LOAD_READ_H
#define CKPT_LOAD_READ_H

#include "base/pages.h"
#include "ckpt/load_units.h"

/* Bytes of a buffer that any unit can be read into: whole pages. */
int64_t unit_room(void);

/* A file that a thread has open; begins as {.file.fd = -1}. */
struct read_file {
    struct paged_file file;
    int place; /* the catalog's */
};

/* A unit that was read. */
struct read_unit {
    const struct load_unit *unit;
    char *bytes;    /* of the unit, in a buffer */
    uint32_t *sums; /* [sum_count] of its bytes, cut where ranges end; of those that have one to compare */
    int sum_count, sum_room;
};

/* Reads r->unit of the directory's into the buffer, which begins with a page: r->bytes is where. -1 with
 * error(): what is there means nothing. */
int unit_read(struct read_unit *r, const struct catalog *c, const char *dir, struct read_file *f, char *buffer);
void read_unit_release(struct read_unit *r);
void read_file_close(struct read_file *f);

/* The ranges that a unit's bytes are cut into, one after the other: begins with *at = 0; false after the last.
 * `tensor` is the catalog's; the bytes are [begin, begin+bytes) of it. */
struct unit_cut {
    int64_t at, tensor, begin, bytes;
};
bool unit_next_cut(const struct catalog *c, const struct load_unit *unit, struct unit_cut *cut);

#endif

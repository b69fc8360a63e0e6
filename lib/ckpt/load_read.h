/* SPDX-License-Identifier: MIT */
/* The files' side of a load: a unit read and summed. It touches files and nothing else: no communication, no
 * device; so threads of a crew do it. */
#ifndef CKPT_LOAD_READ_H
#define CKPT_LOAD_READ_H

#include "ckpt/load_units.h"

/* A file that a thread has open; begins as {.fd = -1}. */
struct read_file {
    char *path;
    int file, fd; /* the catalog's; -1: none */
};

/* A unit that was read. */
struct read_unit {
    const struct load_unit *unit;
    char *bytes; /* [UNIT_BYTES], owned: the caller makes it before the first read */
    uint32_t
        *sums; /* [sum_count] of the unit's bytes, cut where ranges end; of those that have one to compare */
    int sum_count, sum_room;
};

/* Reads r->unit of the directory's. -1 with error(): what r->bytes holds means nothing. */
int unit_read(struct read_unit *r, const struct catalog *c, const char *dir, struct read_file *f);
/* Has the system begin to read a unit, which will be wanted later. Nothing comes of a failure. */
void unit_expect(const struct load_unit *unit, const struct catalog *c, const char *dir, struct read_file *f);
void read_unit_release(struct read_unit *r);
void read_file_close(struct read_file *f);

/* The ranges that a unit's bytes are cut into, one after the other: begins with *at = 0; false after the last.
 * `tensor` is the catalog's; the bytes are [begin, begin+bytes) of it. */
struct unit_cut {
    int64_t at, tensor, begin, bytes;
};
bool unit_next_cut(const struct catalog *c, const struct load_unit *unit, struct unit_cut *cut);

#endif

/* SPDX-License-Identifier: MIT */
/* The files' side of a load: threads read a rank's units, in order and a few ahead, and sum what passes. They
 * touch files and nothing else: no communication, no device. */
#ifndef CKPT_LOAD_READ_H
#define CKPT_LOAD_READ_H

#include <pthread.h>
#include <stdbool.h>

#include "base/error.h"
#include "ckpt/load_units.h"

enum { READ_SLOTS = 4, READ_THREADS = 2 };

/* A unit that was read. */
struct read_slot {
    const struct load_unit *unit;
    char *bytes; /* UNIT_BYTES */
    bool ready;
    bool failed; /* to read it: what `bytes` holds means nothing */
    enum status status;
    char text[640];
    uint32_t *sums; /* [sum_count] of the unit's bytes, cut where ranges end */
    int sum_count, sum_room;
};

struct unit_reader {
    const struct load_units *u;
    const char *dir;
    int rank;
    struct read_slot slots[READ_SLOTS];
    pthread_t threads[READ_THREADS];
    int started;
    pthread_mutex_t lock;
    pthread_cond_t moved;      /* what is below changed */
    int64_t next;              /* of u->list, where to look for the next one to read */
    int64_t begun, taken, let; /* of this rank's units: let <= taken <= begun <= let + READ_SLOTS */
    bool stopped;              /* what is left is not to be read any more */
};

/* `u` and `dir` must outlive unit_reader_end(). -1 (status 3): no thread. */
int unit_reader_start(struct unit_reader *r, const struct load_units *u, const char *dir, int rank,
                      int threads);
/* This rank's next unit; waits, with signs of life, until it is read. It stays until it is let go, in the order
 * in which they were taken. */
struct read_slot *unit_reader_take(struct unit_reader *r);
void unit_reader_let(struct unit_reader *r);
/* The units that are left come unread, as failed, without a text. */
void unit_reader_stop(struct unit_reader *r);
/* At any time. keep: the units' bytes stay, as messages that failed may still read them. */
void unit_reader_end(struct unit_reader *r, bool keep);

/* The ranges that a unit's bytes are cut into, one after the other: begins with *at = 0; false after the last.
 * `tensor` is the catalog's; the bytes are [begin, begin+bytes) of it. */
struct unit_cut {
    int64_t at, tensor, begin, bytes;
};
bool unit_next_cut(const struct catalog *c, const struct load_unit *unit, struct unit_cut *cut);

#endif

/* SPDX-License-Identifier: MIT */
/* Units on their way to files: a ring of buffers, filled in order by the walk (save_units.h) and emptied by a
 * crew of threads, so that one sums while another waits for the disk. They touch files and nothing else: no
 * communication, no device.
 *
 * With a buffer for every unit the walk never waits for a disk: what the ring then holds is a snapshot, and
 * training goes on while it is written. With a few, it is a pipe, and the disk sets the pace. */
#ifndef CKPT_SAVE_WRITE_H
#define CKPT_SAVE_WRITE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/crew.h"
#include "base/error.h"
#include "ckpt/map.h"
#include "ckpt/save_ring.h"
#include "ckpt/units.h"

/* The checksum of bytes that one writer wrote: a part of one entry, within one range of the manifest's. */
struct range {
    int entry;
    uint32_t crc32;
    int64_t begin, bytes; /* in the entry */
};

/* A file as this rank writes it: open from its first unit to its last. */
struct written_file {
    int fd, direct; /* for pwrite_direct(); -1: not open */
    int units;      /* that were taken and are not written */
    bool used;      /* units were taken */
    bool ended;     /* no more will be */
};

struct writer {
    const struct ckpt_map *l;
    const char *dir;     /* the temporary directory; its files are there, with their full sizes */
    const bool *touched; /* [file]: to be synced at the end, as another descriptor wrote to it */
    struct crew *crew;
    int file; /* of the unit that was taken last; -1 */
    bool closed;
    atomic_bool failing; /* what is left is let go unwritten: the walk goes on, as other ranks are in it */
    bool failed;         /* as is known to the walk */
    enum status status;
    char text[640];
    pthread_mutex_t lock; /* of what is below, while the crew is at work */
    struct written_file *files;
    struct range *ranges; /* what was written */
    int range_count, range_room;
};

/* A ring has so many slots more than the most units that it is to hold. */
enum { WRITER_SLOTS = 1 };

/* `l`, `dir`, `touched` and the ring must outlive writer_join(). */
void writer_start(struct writer *w, struct ring *ring, const struct ckpt_map *l, const char *dir,
                  const bool *touched);
/* The next buffer of the ring, with a copy of the unit and room for its bytes; waits, with signs of life, until
 * there is one. Slots are filled in any way, and given in the order in which they were taken. */
struct slot *writer_take(struct writer *w, const struct unit *unit);
void writer_give(struct writer *w);
/* After the last unit. */
void writer_close(struct writer *w);
/* Whether the crew has done all that it was given. Never waits. */
bool writer_done(struct writer *w);
/* Waits for it, with signs of life, and helps. -1: the first thing that could not be done, as error(). A writer
 * that was not closed stops where it is. */
int writer_join(struct writer *w);
void writer_release(struct writer *w);

#endif

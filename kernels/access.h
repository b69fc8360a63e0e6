/* SPDX-License-Identifier: MIT */
/* What an operation of ops.h touches: the ranges of device memory that it reads and writes, one function an
 * operation. Tests show that they are true (t/unit/access.c); the backend `late` and CUDA's build on them.
 *
 * The functions read the operation's struct alone, no device memory. Where only the device knows how much is
 * touched (rows by `count` or offsets) a range is the bound that the host knows. An operation may read and write
 * one place, where ops.h allows that; it reads first. */
#ifndef KERNELS_ACCESS_H
#define KERNELS_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ops.h"

enum access_kind {
    READ = 1,  /* results may depend on any of these bytes */
    WRITE = 2, /* each of these bytes is written, and what was there does not matter */
    UPDATE = 3 /* what was there matters: it is read, or stays where nothing is written */
};

/* `planes` times `rows` times `width` bytes: byte b of row r of plane i is at p + i·step + r·ld + b. Rows of
 * neighbours in memory, such as k and v beside q, are not touched. */
struct access {
    enum access_kind kind;
    bool bound; /* the device knows how much of it is touched; of the rest there may be nothing yet */
    void *p;    /* only as an address */
    size_t width, rows, ld, planes, step;
};

/* Room for what one operation touches. */
enum { ACCESS_MOST = 16 };
struct access_list {
    int count;
    struct access list[ACCESS_MOST];
};

/* Appends a range, unless it is NULL or empty; rows that follow each other without a gap become one. */
void access_put(struct access_list *l, struct access a);

/* access_NAME(list, op) adds what the operation NAME touches. */
#define X(name) void access_##name(struct access_list *l, const struct name *op);
BACKEND_OPS(X)
#undef X

#endif

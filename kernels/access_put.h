/* SPDX-License-Identifier: MIT */
/* For the functions of access.h: ranges in the terms of ops.h. `unit`: bytes of an element. */
#ifndef KERNELS_ACCESS_PUT_H
#define KERNELS_ACCESS_PUT_H

#include "access.h"

/* [rows,width] elements, ld apart. */
static inline void put_rows(struct access_list *l, enum access_kind kind, const void *p, int64_t rows,
                            int64_t width, int64_t ld, size_t unit)
{
    access_put(l, (struct access){.kind = kind,
                                  .p = (void *)(uintptr_t)p,
                                  .width = (size_t)width * unit,
                                  .rows = (size_t)rows,
                                  .ld = (size_t)ld * unit,
                                  .planes = 1});
}

/* [count] elements. */
static inline void put(struct access_list *l, enum access_kind kind, const void *p, int64_t count, size_t unit)
{
    put_rows(l, kind, p, 1, count, count, unit);
}

/* As put_rows(), of which the device knows how much is touched. */
static inline void put_bound(struct access_list *l, enum access_kind kind, const void *p, int64_t rows,
                             int64_t width, int64_t ld, size_t unit)
{
    int before = l->count;
    put_rows(l, kind, p, rows, width, ld, unit);
    if (l->count > before)
        l->list[before].bound = true;
}

/* READ or WRITE of rows that `count` on the device bounds, or of all where it is NULL. */
static inline void put_counted(struct access_list *l, enum access_kind kind, const int32_t *count,
                               const void *p, int64_t rows, int64_t width, int64_t ld, size_t unit)
{
    if (count)
        put_bound(l, kind == WRITE ? UPDATE : kind, p, rows, width, ld, unit);
    else
        put_rows(l, kind, p, rows, width, ld, unit);
}

#endif

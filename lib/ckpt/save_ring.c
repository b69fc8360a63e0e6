/* SPDX-License-Identifier: MIT */
#include "ckpt/save_ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"

#define TOUCH_BYTES (4 * (int64_t)HUGE_PAGE) /* between two looks at whether it is enough */

void ring_grow(struct ring *r, int count)
{
    if (count <= r->count)
        return;
    r->slots = xrealloc(r->slots, count, sizeof *r->slots);
    memset(r->slots + r->count, 0, (size_t)(count - r->count) * sizeof *r->slots);
    r->count = count;
}

static void *touch(void *arg)
{
    struct ring *r = arg;
    for (int64_t at = 0; at < r->block_bytes && !atomic_load(&r->enough); at += TOUCH_BYTES) {
        int64_t n = min64(TOUCH_BYTES, r->block_bytes - at);
        if (madvise(r->block + at, (size_t)n, MADV_POPULATE_WRITE) != 0)
            memset(r->block + at, 0, (size_t)n); /* an older kernel */
    }
    return NULL;
}

/* What a unit of so many bytes takes, wherever in a page it begins. */
static int64_t pages_of(int64_t bytes)
{
    int64_t page = page_bytes();
    return round_up(bytes, page) + page;
}

void ring_prepare(struct ring *r, const int64_t *sizes, int count)
{
    int64_t at = 0;
    ring_grow(r, count);
    for (int i = 0; i < count; i++)
        r->block_bytes += pages_of(sizes[i]);
    r->block_bytes = round_up(r->block_bytes, (int64_t)HUGE_PAGE);
    r->block = huge_alloc((size_t)r->block_bytes);
    if (!r->block)
        return;
    for (int i = 0; i < count; at += pages_of(sizes[i++]))
        r->slots[i] = (struct slot){.memory = r->block + at, .room = pages_of(sizes[i]), .borrowed = true};
    atomic_store(&r->enough, false);
    r->touching = pthread_create(&r->toucher, NULL, touch, r) == 0;
}

void ring_settle(struct ring *r)
{
    if (!r->touching)
        return;
    atomic_store(&r->enough, true);
    pthread_join(r->toucher, NULL);
    r->touching = false;
}

void slot_room(struct slot *t)
{
    int64_t page = page_bytes(), bytes = pages_of(t->unit.bytes);
    if (bytes > t->room) {
        if (!t->borrowed)
            free(t->memory);
        t->borrowed = false;
        t->room = bytes;
        t->memory = xaligned((size_t)page, (size_t)bytes);
    }
    t->bytes = t->memory + t->unit.offset % page;
}

void ring_release(struct ring *r)
{
    ring_settle(r);
    for (int i = 0; i < r->count; i++) {
        free(r->slots[i].unit.segments);
        if (!r->slots[i].borrowed)
            free(r->slots[i].memory);
    }
    free(r->slots);
    huge_free(r->block, (size_t)r->block_bytes);
    r->slots = NULL;
    r->block = NULL;
    r->count = 0;
}

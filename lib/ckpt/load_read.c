/* SPDX-License-Identifier: MIT */
#include "ckpt/load_read.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "tensors/sum.h"

int64_t unit_room(void)
{
    int64_t page = page_bytes();
    return round_up(UNIT_BYTES, page) + page;
}

bool unit_next_cut(const struct catalog *c, const struct load_unit *unit, struct unit_cut *cut)
{
    if (!cut->at && !cut->bytes) {
        cut->tensor = unit->tensor;
        cut->begin = unit->begin;
    } else {
        cut->at += cut->bytes;
        cut->begin += cut->bytes;
    }
    if (cut->at == unit->bytes)
        return false;
    while (cut->begin == c->tensors[cut->tensor].bytes) {
        cut->tensor++;
        cut->begin = 0;
    }
    const struct catalog_tensor *t = &c->tensors[cut->tensor];
    int64_t range = t->range - cut->begin % t->range;
    cut->bytes = min64(min64(range, t->bytes - cut->begin), unit->bytes - cut->at);
    return true;
}

static int open_file(struct read_file *f, const struct catalog *c, const char *dir, int place)
{
    if (f->place == place && f->file.fd >= 0)
        return 0;
    char *path = path_join(dir, catalog_file(c, place));
    int r = paged_open(&f->file, path);
    f->place = place;
    free(path);
    return r;
}

void read_file_close(struct read_file *f)
{
    paged_close(&f->file);
}

static void sum_unit(struct read_unit *r, const struct catalog *c)
{
    r->sum_count = 0;
    for (struct unit_cut cut = {0}; unit_next_cut(c, r->unit, &cut);) {
        if (r->sum_count == r->sum_room) {
            r->sum_room = r->sum_room ? 2 * r->sum_room : 16;
            r->sums = xrealloc(r->sums, r->sum_room, sizeof *r->sums);
        }
        bool summed = c->tensors[cut.tensor].sum >= 0;
        r->sums[r->sum_count++] = summed ? sum_bytes(0, r->bytes + cut.at, cut.bytes) : 0;
    }
}

int unit_read(struct read_unit *r, const struct catalog *c, const char *dir, struct read_file *f, char *buffer)
{
    const struct load_unit *unit = r->unit;
    r->bytes = buffer + unit->at % page_bytes();
    TRY(open_file(f, c, dir, unit->file));
    TRY(paged_read(&f->file, r->bytes, (size_t)unit->bytes, unit->at));
    sum_unit(r, c);
    return 0;
}

void read_unit_release(struct read_unit *r)
{
    free(r->sums);
    *r = (struct read_unit){0};
}

/* SPDX-License-Identifier: MIT */
#include "ckpt/load_read.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "tensors/sum.h"

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

static int open_file(struct read_file *f, const struct catalog *c, const char *dir, int file)
{
    if (f->file == file && f->fd >= 0)
        return 0;
    read_file_close(f);
    f->path = path_join(dir, catalog_file(c, file));
    f->file = file;
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    return f->fd < 0 ? error_errno("cannot open '%s'", f->path) : 0;
}

void read_file_close(struct read_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    *f = (struct read_file){.fd = -1};
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

int unit_read(struct read_unit *r, const struct catalog *c, const char *dir, struct read_file *f)
{
    const struct load_unit *unit = r->unit;
    TRY(open_file(f, c, dir, unit->file));
    TRY(pread_all(f->fd, r->bytes, (size_t)unit->bytes, unit->at, f->path));
    sum_unit(r, c);
    return 0;
}

void unit_expect(const struct load_unit *unit, const struct catalog *c, const char *dir, struct read_file *f)
{
    if (open_file(f, c, dir, unit->file) == 0)
        posix_fadvise(f->fd, unit->at, unit->bytes, POSIX_FADV_WILLNEED);
    else
        error_clear();
}

void read_unit_release(struct read_unit *r)
{
    free(r->bytes);
    free(r->sums);
    *r = (struct read_unit){0};
}

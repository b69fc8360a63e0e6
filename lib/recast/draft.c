/* SPDX-License-Identifier: MIT */
#include "recast/draft.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int draft_file(struct draft *d, const char *name)
{
    for (int i = d->file_count - 1; i >= 0; i--)
        if (strcmp(d->files[i].name, name) == 0)
            return i;
    d->files = xrealloc(d->files, (size_t)d->file_count + 1, sizeof *d->files);
    d->files[d->file_count] = (struct draft_file){.name = xstrdup(name)};
    return d->file_count++;
}

struct made_tensor *draft_tensor(struct draft *d, int file, const char *name, enum number to, int dims,
                                 const int64_t *shape)
{
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 256;
        d->list = xrealloc(d->list, d->room, sizeof *d->list);
    }
    struct made_tensor *m = &d->list[d->count++];
    *m = (struct made_tensor){
        .name = xstrdup(name), .file = file, .to = to, .dims = dims, .bytes = number_bytes(to)};
    for (int i = 0; i < dims; i++) {
        m->shape[i] = shape[i];
        m->bytes *= shape[i];
    }
    return m;
}

void made_add(struct made_tensor *m, struct piece p)
{
    struct piece *last = m->count ? &m->pieces[m->count - 1] : NULL;
    if (last && p.dir && !p.others && !last->others && last->dir == p.dir && last->file == p.file &&
        last->from == p.from && last->offset + last->count * number_bytes(p.from) == p.offset) {
        last->count += p.count;
        return;
    }
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 1;
        m->pieces = xrealloc(m->pieces, m->room, sizeof *m->pieces);
    }
    m->pieces[m->count++] = p;
}

void draft_shard(struct draft *d, int64_t bytes)
{
    int64_t in = 0;
    int shards = 0;
    for (int i = 0; i < d->count; i++) {
        if (!shards || in + d->list[i].bytes > bytes) {
            shards++;
            in = 0;
        }
        in += d->list[i].bytes;
        d->list[i].file = shards - 1;
    }
    for (int i = 0; i < d->file_count; i++)
        free(d->files[i].name);
    d->files = xrealloc(d->files, shards, sizeof *d->files);
    for (int i = 0; i < shards; i++)
        d->files[i] = (struct draft_file){
            .name = shards == 1 ? xstrdup(SINGLE_FILE)
                                : xasprintf("model-%05d-of-%05d.safetensors", i + 1, shards)};
    d->file_count = shards;
}

int64_t draft_bytes(const struct draft *d)
{
    int64_t bytes = 0;
    for (int i = 0; i < d->count; i++)
        bytes += d->list[i].bytes;
    return bytes;
}

void draft_release(struct draft *d)
{
    for (int i = 0; i < d->count; i++) {
        for (int k = 0; k < d->list[i].count; k++)
            free(d->list[i].pieces[k].others);
        free(d->list[i].name);
        free(d->list[i].pieces);
    }
    for (int i = 0; i < d->file_count; i++)
        free(d->files[i].name);
    free(d->list);
    free(d->files);
    *d = (struct draft){0};
}

/* SPDX-License-Identifier: MIT */
#include "ckpt/load_memory.h"

#include "base/num.h"

static int start(struct host_work *work)
{
    struct load_memory *m = (struct load_memory *)work;
    m->open = true;
    return 0;
}

static int move(struct host_work *work)
{
    struct load_memory *m = (struct load_memory *)work;
    return m->done;
}

/* It is done whenever somebody waits for it. */
static int await(struct host_work *work)
{
    return 0;
}

static void release(struct host_work *work)
{
    struct load_memory *m = (struct load_memory *)work;
    m->open = m->queued = false;
}

static void add(struct load_memory *m, void *p, int64_t bytes)
{
    if (p && bytes)
        m->ranges[m->work.count++] =
            (struct host_range){.p = p, .bytes = (size_t)bytes, .access = HOST_READ | HOST_WRITE};
}

void load_memory_open(struct load_memory *m, const struct rank_state *s)
{
    bool f32 = s->plan->training.precision == PRECISION_F32;
    *m = (struct load_memory){.s = s};
    if (s->be->device)
        return;
    m->work = (struct host_work){.what = "load",
                                 .group = "self",
                                 .ranges = m->ranges,
                                 .start = start,
                                 .move = move,
                                 .await = await,
                                 .release = release};
    for (int f = 0; f < FLATS; f++) {
        add(m, s->weights[f], s->shards->padded[f] * (int64_t)type_bytes(f32 || f == FLAT_BUFFER ? F32 : BF16));
        for (int i = 0; i < STATES && f != FLAT_BUFFER; i++)
            add(m, s->state[i][f], s->shards->sliced[f] * (int64_t)sizeof(float));
    }
    m->queued = true;
    s->be->host_work(s->stream, &m->work);
    while (m->queued && !m->open && s->be->poll() == 0)
        ;
}

void *load_memory_at(const struct load_memory *m, const void *device)
{
    for (int i = 0; m->open && i < m->work.count; i++) {
        const struct host_range *r = &m->ranges[i];
        int64_t at = (const char *)device - (const char *)r->p;
        if (at >= 0 && at < (int64_t)r->bytes)
            return (char *)r->host + at;
    }
    return NULL;
}

int load_memory_close(struct load_memory *m)
{
    m->done = true;
    return m->queued ? m->s->be->sync(m->s->stream) : 0;
}

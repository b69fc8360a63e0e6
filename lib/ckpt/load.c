/* SPDX-License-Identifier: MIT */
/* Reading: each rank takes its own rows and columns out of whole tensors, through one buffer of a few MiB. A
 * column cut reads whole rows and keeps its columns: ranks of one host find the rest in the page cache. */
#include "ckpt/load.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/map.h"
#include "ckpt/names.h"
#include "tensors/source.h"

#define CHUNK_BYTES ((int64_t)8 << 20)

struct loader {
    const struct rank_state *s;
    struct hf_dir weights, optimizer;
    bool resume; /* optimizer state too */
    char *file_bytes, *device_bytes;
    int64_t file_room, device_room;
};

/* Where a tensor is read from. */
struct found {
    struct hf_dir *dir;
    struct stored at;
};

/* Elements [first, first+count) of the shard, which lie within a few rows of the tensor, as `to` into
 * l->device_bytes. */
static int read_chunk(struct loader *l, const struct found *t, const struct shard *h, int64_t tensor_cols,
                      int64_t first, int64_t count, enum type to)
{
    const struct stored *at = &t->at;
    int64_t size = number_bytes(at->number), row = first / h->cols, last = (first + count - 1) / h->cols;
    int64_t begin = (h->row + row) * tensor_cols + h->col + first % h->cols;
    int64_t end = (h->row + last) * tensor_cols + h->col + (first + count - 1) % h->cols + 1;
    char *from = room_for(&l->file_bytes, &l->file_room, (end - begin) * size);
    char *dst = room_for(&l->device_bytes, &l->device_room, count * (int64_t)type_bytes(to));
    if (hf_read(t->dir, at->file, from, (end - begin) * size, at->offset + begin * size) < 0)
        return -1;
    if (h->cols == tensor_cols) {
        convert(dst, to, from, at->number, count);
        return 0;
    }
    for (int64_t done = 0; done < count;) {
        int64_t i = first + done, n = min64(h->cols - i % h->cols, count - done);
        int64_t place = (h->row + i / h->cols) * tensor_cols + h->col + i % h->cols;
        convert(dst + done * (int64_t)type_bytes(to), to, from + (place - begin) * size, at->number, n);
        done += n;
    }
    return 0;
}

/* Elements [first, first+count) of the shard to device memory. */
static int read_shard(struct loader *l, const struct found *t, const struct shard *h, int64_t first,
                      int64_t count, void *device, enum type to)
{
    int64_t cols = l->s->plan->inventory.tensors[h->tensor].cols;
    int64_t row = cols * max64(number_bytes(t->at.number), (int64_t)type_bytes(to));
    int64_t most = h->cols == cols ? CHUNK_BYTES / 4 : max64(1, CHUNK_BYTES / row) * h->cols;
    for (int64_t done = 0; done < count;) {
        int64_t n = min64(most, count - done);
        if (read_chunk(l, t, h, cols, first + done, n, to) < 0)
            return -1;
        l->s->be->upload(l->s->stream, (char *)device + done * (int64_t)type_bytes(to), l->device_bytes,
                         n * (int64_t)type_bytes(to));
        done += n;
    }
    return 0;
}

/* The part of the shard in this rank's slice to a state's buffer. */
static int read_slice(struct loader *l, const struct found *t, const struct shard *h, float *device)
{
    const struct shards *s = l->s->shards;
    int64_t begin = s->slice_first[h->flat], first = max64(h->offset, begin);
    int64_t last = min64(h->offset + h->rows * h->cols, begin + s->slice[h->flat]);
    if (first >= last)
        return 0;
    return read_shard(l, t, h, first - h->offset, last - first, device + (first - begin), F32);
}

/* A state in the optimizer's files: 1, 0 when it is not there, -1. Always f32 in the tensor's own shape. */
static int find_state(struct loader *l, const struct tensor *t, enum state s, const char *weights_file,
                      struct found *out)
{
    char full[160];
    const struct st_file *f = hf_file(&l->optimizer, hf_file_named(&l->optimizer, weights_file));
    if (!f)
        return -1;
    const struct st_tensor *x = st_find(f, map_tensor_name(&l->s->plan->model, t, s, full));
    if (!x)
        return 0;
    if (!source_same_shape(x, t) || strcmp(x->dtype, "F32") != 0) {
        char is[192], should[128];
        return error(STATUS_USAGE, "%s: tensor '%s' should be F32 %s, not %s %s", f->path, full,
                     tensor_shape_text(t, should), x->dtype, st_shape_text(x, is));
    }
    out->dir = &l->optimizer;
    out->at = (struct stored){hf_file_named(&l->optimizer, weights_file), x->begin, NUMBER_F32};
    return 1;
}

/* A state that the plan keeps: from the optimizer's files or, where it may be, from the weights. What an import
 * does not find begins at 0, as the arena does. */
static int load_state(struct loader *l, const struct shard *h, enum state s, const char *file,
                      const struct found *weights)
{
    const struct plan *p = l->s->plan;
    const struct tensor *t = &p->inventory.tensors[h->tensor];
    struct found from = *weights;
    char full[160];
    int found = l->resume ? find_state(l, t, s, file, &from) : 0;
    if (found < 0)
        return -1;
    if (!found && !states[s].from_weights)
        return l->resume ? error(STATUS_USAGE, "%s/%s: has no tensor '%s'", l->optimizer.path, file,
                                 map_tensor_name(&p->model, t, s, full))
                         : 0;
    return read_slice(l, &from, h, l->s->state[s][h->flat]);
}

static int load_shard(struct loader *l, const struct shard *h)
{
    const struct rank_state *s = l->s;
    const struct tensor *t = &s->plan->inventory.tensors[h->tensor];
    bool buffer = h->flat == FLAT_BUFFER, f32 = buffer || s->plan->training.precision == PRECISION_F32;
    enum type type = f32 ? F32 : BF16;
    struct found weights = {.dir = &l->weights}, from;
    if (source_find(&l->weights, &s->plan->model, t, &weights.at) < 0)
        return -1;
    const char *file = l->weights.files[weights.at.file].name;
    from = weights;
    /* A bf16 plan's weights are in the checkpoint as they were. An f32 plan takes them from the state that is
     * them in f32, if the checkpoint has it. */
    for (int i = 0; i < STATES && f32 && l->resume && !buffer; i++)
        if (states[i].beside_bf16 && find_state(l, t, i, file, &from) < 0)
            return -1;
    char *device = (char *)s->weights[h->flat] + h->offset * (int64_t)type_bytes(type);
    if (read_shard(l, &from, h, 0, h->rows * h->cols, device, type) < 0)
        return -1;
    for (int i = 0; i < STATES && !buffer; i++)
        if (plan_keeps(s->plan, i) && load_state(l, h, i, file, &weights) < 0)
            return -1;
    return 0;
}

/* hf_seen() of both directories. */
static char *see(struct loader *l, bool all)
{
    char *weights = hf_seen(&l->weights, all), *optimizer = weights ? hf_seen(&l->optimizer, all) : NULL;
    char *seen = optimizer ? xasprintf("%s%s", weights, optimizer) : NULL;
    free(weights);
    free(optimizer);
    return seen;
}

static void loader_release(struct loader *l)
{
    hf_close(&l->weights);
    if (l->resume)
        hf_close(&l->optimizer);
    free(l->file_bytes);
    free(l->device_bytes);
}

static int loader_open(struct loader *l, const char *dir)
{
    TRY(hf_open(&l->weights, dir));
    if (l->resume)
        l->optimizer = (struct hf_dir){.path = path_join(dir, OPTIMIZER_DIR)};
    return 0;
}

static int load_all(struct loader *l, const char *dir, char **seen)
{
    const struct rank_state *s = l->s;
    TRY(loader_open(l, dir));
    int rc = l->resume ? source_extras(&l->weights, &s->plan->model, &s->plan->inventory) : 0;
    if (!l->resume) {
        hf_say_unread(&l->weights);
        source_say_strangers(&l->weights, &s->plan->model, &s->plan->inventory);
    }
    for (int i = 0; i < s->shards->count && rc == 0; i++)
        rc = load_shard(l, &s->shards->list[i]);
    if (rc == 0 && seen && !(*seen = see(l, false)))
        rc = -1;
    loader_release(l);
    return rc;
}

int checkpoint_load(const struct rank_state *s, const char *dir, char **seen)
{
    return load_all(&(struct loader){.s = s, .resume = true}, dir, seen);
}

int checkpoint_import(const struct rank_state *s, const char *hfdir, char **seen)
{
    return load_all(&(struct loader){.s = s}, hfdir, seen);
}

char *checkpoint_seen(const char *dir, bool resume)
{
    struct loader l = {.resume = resume};
    if (loader_open(&l, dir) < 0)
        return NULL;
    for (int i = 0; i < l.weights.file_count && resume; i++)
        hf_file_named(&l.optimizer, l.weights.files[i].name);
    char *seen = see(&l, true);
    loader_release(&l);
    return seen;
}

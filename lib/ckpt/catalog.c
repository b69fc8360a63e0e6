/* SPDX-License-Identifier: MIT */
#include "ckpt/catalog.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "ckpt/map.h"
#include "ckpt/names.h"
#include "ckpt/sums.h"
#include "tensors/source.h"

/* A file of one of the two directories. */
struct source_file {
    struct hf_dir *dir;
    int file;
};

/* Where something of the model is. */
struct source_part {
    struct source_file from;
    int place; /* of the file in the catalog; -1: not known yet */
    struct catalog_part part;
};

struct cataloguing {
    const struct plan *p;
    const struct manifest *m; /* NULL: an import */
    struct hf_dir weights, optimizer;
    struct source_part *parts;
    int64_t part_count, part_room;
    struct source_file *files; /* those of the catalog */
    int file_count;
};

struct catalog_array catalog_array(struct catalog *c, int which)
{
    switch (which) {
    case CATALOG_TENSORS:
        return (struct catalog_array){(void **)&c->tensors, sizeof *c->tensors};
    case CATALOG_PARTS:
        return (struct catalog_array){(void **)&c->parts, sizeof *c->parts};
    case CATALOG_SUMS:
        return (struct catalog_array){(void **)&c->sums, sizeof *c->sums};
    case CATALOG_NAMES:
        return (struct catalog_array){(void **)&c->names, sizeof *c->names};
    default:
        return (struct catalog_array){(void **)&c->name_at, sizeof *c->name_at};
    }
}

/* Room for one more at the end of an array, zeroed. */
static void *grow(struct catalog *c, int which)
{
    struct catalog_array a = catalog_array(c, which);
    int64_t n = c->counts[which]++;
    if ((n & (n + 1)) == 0)
        *a.p = xrealloc(*a.p, 2 * (size_t)n + 2, a.element);
    return memset((char *)*a.p + n * a.element, 0, a.element);
}

/* ---- what the plan wants ---- */

static void add_part(struct cataloguing *k, struct hf_dir *dir, const struct stored *at, int tensor,
                     uint32_t target)
{
    if (k->part_count == k->part_room) {
        k->part_room = k->part_room ? 2 * k->part_room : 1024;
        k->parts = xrealloc(k->parts, k->part_room, sizeof *k->parts);
    }
    k->parts[k->part_count++] = (struct source_part){
        .from = {dir, at->file},
        .place = -1,
        .part = {.tensor = tensor, .number = at->number, .offset = at->offset, .targets = target}};
}

/* A state in the optimizer's files: 1, 0 when it is not there, -1. Always f32 in the tensor's own shape. */
static int find_state(struct cataloguing *k, const struct tensor *t, enum state s, const char *weights_file,
                      struct stored *out)
{
    char full[160];
    int file = hf_file_named(&k->optimizer, weights_file);
    const struct st_file *f = hf_file(&k->optimizer, file);
    if (!f)
        return -1;
    const struct st_tensor *x = st_find(f, map_tensor_name(&k->p->model, t, s, full));
    if (!x)
        return 0;
    if (!source_same_shape(x, t) || strcmp(x->dtype, "F32") != 0) {
        char is[192], should[128];
        return error(STATUS_USAGE, "%s: tensor '%s' should be F32 %s, not %s %s", f->path, full,
                     tensor_shape_text(t, should), x->dtype, st_shape_text(x, is));
    }
    *out = (struct stored){file, x->begin, NUMBER_F32};
    return 1;
}

/* A state that the plan keeps: from the optimizer's files or, where it may be, from the weights. What an import
 * does not find begins at 0, as the arena does. */
static int want_state(struct cataloguing *k, int tensor, enum state s, const struct stored *weights)
{
    const struct tensor *t = &k->p->inventory.tensors[tensor];
    const char *file = k->weights.files[weights->file].name;
    struct stored at;
    char full[160];
    int found = k->m ? find_state(k, t, s, file, &at) : 0;
    if (found > 0)
        add_part(k, &k->optimizer, &at, tensor, TARGET_STATE(s));
    else if (found == 0 && states[s].from_weights)
        add_part(k, &k->weights, weights, tensor, TARGET_STATE(s));
    else if (found == 0 && k->m)
        return error(STATUS_USAGE, "%s/%s: has no tensor '%s'", k->optimizer.path, file,
                     map_tensor_name(&k->p->model, t, s, full));
    return found < 0 ? -1 : 0;
}

static int want_tensor(struct cataloguing *k, int tensor)
{
    const struct tensor *t = &k->p->inventory.tensors[tensor];
    bool f32 = k->p->training.precision == PRECISION_F32;
    struct stored weights, from;
    struct hf_dir *dir = &k->weights;
    TRY(source_find(&k->weights, &k->p->model, t, &weights));
    from = weights;
    /* A bf16 plan's weights are in the checkpoint as they were. An f32 plan takes them from the state that is
     * them in f32, if the checkpoint has it. */
    for (int s = 0; s < STATES && f32 && k->m && t->trained; s++) {
        int found = states[s].beside_bf16 ? find_state(k, t, s, k->weights.files[weights.file].name, &from) : 0;
        TRY(found);
        if (found)
            dir = &k->optimizer;
    }
    add_part(k, dir, &from, tensor, TARGET_WEIGHTS);
    for (int s = 0; s < STATES && t->trained; s++)
        if (plan_keeps(k->p, s))
            TRY(want_state(k, tensor, s, &weights));
    return 0;
}

/* ---- the files ---- */

/* One of the manifest's files of tensors. */
static void open_listed(struct cataloguing *k, const struct manifest_file *f, struct problems *damage)
{
    size_t n = strlen(OPTIMIZER_DIR "/");
    bool optimizer = strncmp(f->name, OPTIMIZER_DIR "/", n) == 0;
    struct hf_dir *d = optimizer ? &k->optimizer : &k->weights;
    int file = hf_file_named(d, optimizer ? f->name + n : f->name);
    const struct st_file *st = hf_file(d, file);
    if (!st) {
        problem(damage, "%s", error_text());
        if (error_status() == STATUS_ENV)
            problem_unreadable(damage);
        return;
    }
    sums_header(damage, k->m, f, st);
    k->files[k->file_count++] = (struct source_file){d, file};
}

/* All of the manifest's, whoever wants them. */
static void open_all(struct cataloguing *k, struct problems *damage)
{
    k->files = xcalloc(k->m->count, sizeof *k->files);
    for (int i = 0; i < k->m->count; i++)
        if (k->m->files[i].tensors)
            open_listed(k, &k->m->files[i], damage);
}

/* Where a file stands in the catalog. Of an import those stand there that hold something of the model. */
static int place_of(struct cataloguing *k, const struct source_file *f)
{
    for (int i = k->file_count - 1; i >= 0; i--)
        if (k->files[i].dir == f->dir && k->files[i].file == f->file)
            return i;
    if (k->m)
        return error(STATUS_USAGE, "%s/" MANIFEST_FILE ": does not list '%s'", k->weights.path,
                     f->dir->files[f->file].name);
    if ((k->file_count & (k->file_count + 1)) == 0)
        k->files = xrealloc(k->files, 2 * (size_t)k->file_count + 2, sizeof *k->files);
    k->files[k->file_count] = *f;
    return k->file_count++;
}

static int by_place(const void *a, const void *b)
{
    const struct source_part *x = a, *y = b;
    if (x->place != y->place)
        return x->place < y->place ? -1 : 1;
    if (x->part.offset != y->part.offset)
        return x->part.offset < y->part.offset ? -1 : 1;
    return x->part.tensor - y->part.tensor;
}

/* Parts in the order of their places, those of one place made one. */
static int sort_parts(struct cataloguing *k)
{
    int64_t count = 0;
    for (int64_t i = 0; i < k->part_count; i++)
        TRY(k->parts[i].place = place_of(k, &k->parts[i].from));
    qsort(k->parts, k->part_count, sizeof *k->parts, by_place);
    for (int64_t i = 0; i < k->part_count; i++)
        if (count && by_place(&k->parts[count - 1], &k->parts[i]) == 0)
            k->parts[count - 1].part.targets |= k->parts[i].part.targets;
        else
            k->parts[count++] = k->parts[i];
    k->part_count = count;
    return 0;
}

/* ---- the arrays ---- */

static void put_name(struct catalog *c, const char *folder, const char *name)
{
    *(int64_t *)grow(c, CATALOG_FILES) = c->counts[CATALOG_NAMES];
    char *full = xasprintf("%s%s", folder, name);
    for (const char *s = full;; s++) {
        *(char *)grow(c, CATALOG_NAMES) = *s;
        if (!*s)
            break;
    }
    free(full);
}

static void put_sums(struct catalog *c, const struct manifest *m, const struct manifest_tensor *listed,
                     struct catalog_tensor *t)
{
    t->range = listed->ranges ? m->range : max64(t->bytes, 1);
    t->sum = c->counts[CATALOG_SUMS];
    for (int i = 0; i < (listed->ranges ? listed->range_count : 1); i++)
        *(uint32_t *)grow(c, CATALOG_SUMS) = listed->ranges ? listed->ranges[i] : listed->crc32;
}

/* One tensor of a file, with the parts that begin in it: *next is the first that is not used yet. */
static void put_tensor(struct catalog *c, struct cataloguing *k, int place, const struct st_file *st,
                       const struct st_tensor *x, int64_t *next)
{
    struct catalog_tensor t = {.file = place,
                               .first = c->counts[CATALOG_PARTS],
                               .at = st->data + x->begin,
                               .bytes = x->end - x->begin,
                               .range = RANGE_BYTES,
                               .sum = -1};
    for (; *next < k->part_count && k->parts[*next].place == place && k->parts[*next].part.offset < x->end;
         ++*next) {
        struct catalog_part *p = grow(c, CATALOG_PARTS);
        *p = k->parts[*next].part;
        p->offset -= x->begin;
        t.parts++;
    }
    if (!t.parts && !k->m)
        return;
    if (k->m) {
        const char *name = catalog_file(c, place);
        put_sums(c, k->m, manifest_tensor(manifest_find(k->m, name), x->name), &t);
    }
    *(struct catalog_tensor *)grow(c, CATALOG_TENSORS) = t;
}

static void put_all(struct catalog *c, struct cataloguing *k)
{
    int64_t next = 0;
    for (int i = 0; i < k->file_count; i++) {
        const struct st_file *st = hf_file(k->files[i].dir, k->files[i].file);
        bool optimizer = k->files[i].dir == &k->optimizer;
        put_name(c, optimizer ? OPTIMIZER_DIR "/" : "", k->files[i].dir->files[k->files[i].file].name);
        c->bytes += st->size;
        for (int t = 0; t < st->count; t++)
            put_tensor(c, k, i, st, &st->tensors[t], &next);
    }
}

static int make(struct catalog *c, struct cataloguing *k, struct problems *damage)
{
    const struct inventory *v = &k->p->inventory;
    if (k->m) {
        open_all(k, damage);
        if (damage->count)
            return 0;
        TRY(source_extras(&k->weights, &k->p->model, v));
    } else {
        hf_say_unread(&k->weights);
        source_say_strangers(&k->weights, &k->p->model, v);
    }
    for (int i = 0; i < v->count; i++)
        TRY(want_tensor(k, i));
    TRY(sort_parts(k));
    put_all(c, k);
    return 0;
}

/* Whether the index that was read, or could not be, is not the manifest's: that is noted. */
static bool check_index(struct cataloguing *k, int opened, const char *dir, struct problems *damage)
{
    const struct manifest_file *f = manifest_find(k->m, INDEX_FILE);
    if (opened == 0 && f && f->crc32 == k->weights.index_crc)
        return false;
    sums_side_files(damage, k->m, dir, INDEX_FILE);
    if (damage->count && opened == 0)
        hf_close(&k->weights);
    return damage->count;
}

int catalog_make(struct catalog *c, const struct plan *p, const char *dir, const struct manifest *m,
                 struct problems *damage)
{
    struct cataloguing k = {.p = p, .m = m};
    *c = (struct catalog){0};
    int opened = hf_open(&k.weights, dir);
    if (m && check_index(&k, opened, dir, damage))
        return 0;
    TRY(opened);
    k.optimizer = (struct hf_dir){.path = path_join(dir, OPTIMIZER_DIR)};
    int rc = make(c, &k, damage);
    hf_close(&k.weights);
    hf_close(&k.optimizer);
    free(k.parts);
    free(k.files);
    if (rc < 0)
        catalog_release(c);
    return rc;
}

const char *catalog_file(const struct catalog *c, int file)
{
    return c->names + c->name_at[file];
}

void catalog_release(struct catalog *c)
{
    free(c->tensors);
    free(c->parts);
    free(c->sums);
    free(c->names);
    free(c->name_at);
    *c = (struct catalog){0};
}

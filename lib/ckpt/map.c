/* SPDX-License-Identifier: MIT */
#include "ckpt/map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ckpt/names.h"
#include "ckpt/sums.h"

char *map_tensor_name(const struct model *m, const struct tensor *t, int state, char buf[static 160])
{
    char name[128];
    snprintf(buf, 160, "%s%s", tensor_name(m, t, name), state == WEIGHTS ? "" : states[state].suffix);
    return buf;
}

char *map_entry_name(const struct ckpt_map *l, const struct map_entry *e, char buf[static 160])
{
    return map_tensor_name(&l->plan->model, &l->plan->inventory.tensors[e->tensor], e->state, buf);
}

/* Tensors of each file (0: dense, 1 + e: expert e), as lists in inventory order. */
struct sorted {
    int *first; /* [experts+2] */
    int *tensors;
};

static struct sorted sort_by_file(const struct plan *p)
{
    const struct inventory *v = &p->inventory;
    int files = (int)p->model.experts + 1;
    struct sorted s = {xcalloc(files + 2, sizeof *s.first), xcalloc(v->count, sizeof *s.tensors)};
    for (int i = 0; i < v->count; i++)
        s.first[v->tensors[i].expert + 3]++; /* two places on: the fill below moves each start up to its end */
    for (int f = 2; f <= files + 1; f++)
        s.first[f] += s.first[f - 1];
    for (int i = 0; i < v->count; i++)
        s.tensors[s.first[v->tensors[i].expert + 2]++] = i;
    return s;
}

/* To the file that is being made; end_file() gives it its place. */
static void add_entry(struct ckpt_map *l, int tensor, int state, enum type type)
{
    const struct tensor *t = &l->plan->inventory.tensors[tensor];
    l->entries[l->count++] = (struct map_entry){.tensor = tensor,
                                                .file = l->file_count,
                                                .state = state,
                                                .type = type,
                                                .bytes = tensor_count(t) * (int64_t)type_bytes(type)};
    l->files[l->file_count].count++;
}

/* The large ones first. Those whose bytes are no multiple of 4 come last: what follows one of them would not
 * be aligned if it were f32. */
static int by_size(const void *a, const void *b)
{
    const struct map_entry *x = a, *y = b;
    bool odd_x = x->bytes % 4, odd_y = y->bytes % 4;
    if (odd_x != odd_y)
        return odd_x - odd_y;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return x->tensor != y->tensor ? x->tensor - y->tensor : x->state - y->state;
}

static void end_file(struct ckpt_map *l, char *name)
{
    struct map_file *f = &l->files[l->file_count];
    f->name = name;
    f->first = l->count - f->count;
    l->file_count++;
    struct map_entry *list = l->entries + f->first;
    int64_t end = 0;
    if (f->count)
        qsort(list, f->count, sizeof *list, by_size);
    for (int i = 0; i < f->count; i++) {
        list[i].begin = end;
        end += list[i].bytes;
    }
    free(map_header(l, l->file_count - 1, &f->header));
    f->bytes = f->header + end;
    l->bytes += f->bytes;
}

static char *file_name(const char *folder, int file)
{
    return file ? xasprintf("%sexpert-%03d.safetensors", folder, file - 1)
                : xasprintf("%sdense.safetensors", folder);
}

void map_init(struct ckpt_map *l, const struct plan *p, enum map_kind kind, int64_t step)
{
    const struct tensor *tensors = p->inventory.tensors;
    int files = (int)p->model.experts + 1;
    bool f32 = p->training.precision == PRECISION_F32 || kind == MAP_GRADIENTS;
    struct sorted s = sort_by_file(p);
    *l = (struct ckpt_map){.plan = p,
                           .step = step,
                           .entries = xcalloc((1 + STATES) * (size_t)p->inventory.count, sizeof *l->entries),
                           .files = xcalloc(2 * (size_t)files, sizeof *l->files)};
    for (int f = 0; f < files; f++) {
        const int *list = s.tensors + s.first[f];
        int n = s.first[f + 1] - s.first[f];
        for (int i = 0; i < n; i++) {
            bool trained = tensors[list[i]].trained;
            if (trained || kind == MAP_STATE)
                add_entry(l, list[i], WEIGHTS, f32 || !trained ? F32 : BF16);
        }
        end_file(l, file_name("", f));
    }
    l->weight_files = l->file_count;
    for (int f = 0; f < files && kind == MAP_STATE; f++) {
        for (int i = s.first[f]; i < s.first[f + 1]; i++)
            for (int state = 0; state < STATES; state++)
                if (tensors[s.tensors[i]].trained && plan_keeps(p, state))
                    add_entry(l, s.tensors[i], state, F32);
        end_file(l, file_name(OPTIMIZER_DIR "/", f));
    }
    free(s.first);
    free(s.tensors);
}

void map_release(struct ckpt_map *l)
{
    for (int f = 0; f < l->file_count; f++)
        free(l->files[f].name);
    free(l->files);
    free(l->entries);
    *l = (struct ckpt_map){0};
}

char *map_header(const struct ckpt_map *l, int file, int64_t *bytes)
{
    const struct map_file *f = &l->files[file];
    char *text, name[160], shape[128];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "........{\"__metadata__\":{\"format\":\"pt\"");
    if (l->step >= 0)
        fprintf(out, ",\"" STEP_KEY "\":\"%" PRId64 "\"", l->step);
    fputc('}', out);
    for (int i = f->first; i < f->first + f->count; i++) {
        const struct map_entry *e = &l->entries[i];
        const struct tensor *t = &l->plan->inventory.tensors[e->tensor];
        fprintf(out, ",\"%s\":{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":[%" PRId64 ",%" PRId64 "]}",
                map_entry_name(l, e, name), e->type == F32 ? "F32" : "BF16", tensor_shape_text(t, shape),
                e->begin, e->begin + e->bytes);
    }
    fputc('}', out);
    while (ftell(out) % HEADER_BYTES)
        fputc(' ', out);
    fclose(out);
    for (int i = 0; i < 8; i++)
        text[i] = (char)((uint64_t)(size - 8) >> 8 * i);
    *bytes = (int64_t)size;
    return text;
}

char *map_index_json(const struct ckpt_map *l)
{
    char *text, name[160];
    size_t size;
    int64_t total = 0;
    FILE *out = open_memstream(&text, &size);
    for (int f = 0; f < l->weight_files; f++)
        total += l->files[f].bytes - l->files[f].header;
    fprintf(out, "{\n  \"metadata\": {\"total_size\": %" PRId64 "},\n  \"weight_map\": {", total);
    const char *comma = "";
    for (int i = 0; i < l->count && l->entries[i].file < l->weight_files; i++) {
        const struct map_entry *e = &l->entries[i];
        fprintf(out, "%s\n    \"%s\": \"%s\"", comma, map_entry_name(l, e, name), l->files[e->file].name);
        comma = ",";
    }
    fprintf(out, "\n  }\n}\n");
    fclose(out);
    return text;
}

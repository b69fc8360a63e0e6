/* SPDX-License-Identifier: MIT */
/* Where everything in a checkpoint lies: files and byte offsets follow from the inventory and the plan's type
 * alone, so that ranks agree on them without a word. */
#ifndef CKPT_MAP_H
#define CKPT_MAP_H

#include "ops.h"
#include "plan/plan.h"
#include "plan/states.h"

enum { WEIGHTS = -1 };

/* A tensor of a file. */
struct map_entry {
    int tensor; /* in the inventory */
    int file;
    int state; /* which of the tensor's states it is (enum state), or WEIGHTS */
    enum type type;
    int64_t begin, bytes; /* in the file's data */
};

struct map_file {
    char *name; /* in the step directory: "expert-003.safetensors", "optimizer/dense.safetensors" */
    int first, count;
    int64_t header; /* bytes before the data */
    int64_t bytes;  /* of the whole file */
};

struct ckpt_map {
    const struct plan *plan;
    int64_t step;              /* that the headers name; -1: they name none */
    struct map_entry *entries; /* file by file, in order of begin */
    int count;
    struct map_file *files; /* the weights' files first */
    int file_count, weight_files;
    int64_t bytes; /* of all files */
};

/* Files are dense.safetensors, then expert-NNN.safetensors with all layers of one expert; within each the large
 * tensors come first, and what is as large in inventory order: so large ones begin at pages of the disk, and
 * every one is aligned to its type. MAP_GRADIENTS: trained tensors only, f32, no optimizer. */
enum map_kind { MAP_STATE, MAP_GRADIENTS };
void map_init(struct ckpt_map *l, const struct plan *p, enum map_kind kind, int64_t step);
void map_release(struct ckpt_map *l);

/* What files call a tensor of the model, or a state of it. */
char *map_tensor_name(const struct model *m, const struct tensor *t, int state, char buf[static 160]);
char *map_entry_name(const struct ckpt_map *l, const struct map_entry *e, char buf[static 160]);
/* The file's first bytes: size word and JSON, padded with blanks to HEADER_BYTES. Its metadata has the step, so
 * that a file of another one is known among those of this. Caller frees. */
enum { HEADER_BYTES = 4096 };
char *map_header(const struct ckpt_map *l, int file, int64_t *bytes);
/* model.safetensors.index.json. Caller frees. */
char *map_index_json(const struct ckpt_map *l);

static inline int64_t row_bytes(const struct ckpt_map *l, const struct map_entry *e)
{
    return l->plan->inventory.tensors[e->tensor].cols * (int64_t)type_bytes(e->type);
}

#endif

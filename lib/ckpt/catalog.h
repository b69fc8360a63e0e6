/* SPDX-License-Identifier: MIT */
/* What of a directory goes where: every tensor that is stored there, in the order of files and places, with
 * the sums of its ranges, and what of the model each holds. One rank of a node reads the headers and makes it;
 * it is arrays of numbers alone, so that the others get it as it is. */
#ifndef CKPT_CATALOG_H
#define CKPT_CATALOG_H

#include "ckpt/manifest.h"
#include "ckpt/problems.h"
#include "plan/plan.h"
#include "plan/states.h"

/* What becomes of a tensor of the model: its weights, and states that begin as they are. */
#define TARGET_WEIGHTS  1u
#define TARGET_STATE(s) (2u << (s))

/* A tensor of a file. */
struct catalog_tensor {
    int32_t file;
    int32_t parts; /* of the model, that it holds: so many from part `first` on; none: nobody wants it */
    int64_t first;
    int64_t at, bytes; /* in the file */
    int64_t range;     /* bytes of a range that has a sum, the last one shorter */
    int64_t sum; /* of its first range, in sums; -1: it has none, nor ranges that would have to be read whole */
};

/* A tensor of the inventory, whole: in a file tensor of its own, or in one that holds several. */
struct catalog_part {
    int32_t tensor, number; /* enum number */
    int64_t offset;         /* bytes from the file tensor's begin */
    uint32_t targets;
};

struct catalog {
    struct catalog_tensor *tensors;
    struct catalog_part *parts;
    uint32_t *sums;
    char *names; /* of files, in the directory: one behind the other, each with its NUL */
    int64_t *name_at;
    int64_t counts[5]; /* of the arrays above, in this order */
    int64_t bytes;     /* of all files of tensors */
};
enum { CATALOG_TENSORS, CATALOG_PARTS, CATALOG_SUMS, CATALOG_NAMES, CATALOG_FILES, CATALOG_ARRAYS };

/* An array, to be sent or allocated: where it is kept, and the bytes of an element. */
struct catalog_array {
    void **p;
    int64_t element;
};
struct catalog_array catalog_array(struct catalog *c, int which);

/* A step directory, with its manifest, or (m NULL) any Hugging Face directory, of which only what the plan
 * wants is in the catalog. What is damaged (its manifest, its index and its headers tell) is noted, and the
 * catalog is then of no use. -1 with error(): what is sound is not what the plan wants. */
int catalog_make(struct catalog *c, const struct plan *p, const char *dir, const struct manifest *m,
                 struct problems *damage);
const char *catalog_file(const struct catalog *c, int file);
void catalog_release(struct catalog *c);

#endif

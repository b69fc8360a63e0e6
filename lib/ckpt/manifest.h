/* SPDX-License-Identifier: MIT */
/* manifest.json of a step directory: size and crc32 of every file and of every tensor, and of the ranges of
 * long tensors, so that whoever has read a part can check it.
 *
 *   {"moekit": 1, "step": 100, "range": 4194304, "files": {"config.json": {"bytes": 812, "crc32": "89abcdef"},
 *    "dense.safetensors": {"bytes": …, "crc32": …, "tensors": {"NAME": "CRC32", …},
 *                          "ranges": {"NAME": "CRC32CRC32…", …}}, …}, "sum": "CRC32"}
 *
 * A range is `range` bytes of a tensor, the last one what is left; a tensor that is one range is not among the
 * ranges. Checkpoints of before have none: the tensor is the range. The sum covers the text before its comma,
 * so that the manifest vouches for itself, to the last byte. It ends the manifests of all versions, so that a
 * newer one is told from a damaged one. What may be added is said in base/format.h. */
#ifndef CKPT_MANIFEST_H
#define CKPT_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGE_BYTES ((int64_t)4 << 20) /* of a range, in what is written */

enum { MANIFEST_SUM_BYTES = 24 }; /* the sum, at the end of a manifest's text */

struct manifest_tensor {
    char *name;
    uint32_t crc32;
    uint32_t *ranges; /* [range_count], or NULL: it is one */
    int range_count;
};

struct manifest_file {
    char *name;
    int64_t bytes;
    uint32_t crc32;
    struct manifest_tensor *tensors; /* sorted by name */
    int count;
};

struct manifest {
    int64_t step;
    int64_t range; /* bytes of a range; 0: no ranges are listed */
    struct manifest_file *files;
    int count;
    uint32_t sum; /* of its text, after it was read */
    bool refused; /* after manifest_read() failed: its sum is right, but it is for a newer moekit */
};

/* Takes over `name`. The new file's tensors are for the caller to fill. */
struct manifest_file *manifest_add(struct manifest *m, char *name, int64_t bytes, uint32_t crc32);
/* Writes dir/name, which must not be there, syncs it, and adds it (m NULL: does not). -1: status 3. */
int manifest_put(struct manifest *m, const char *dir, const char *name, const char *text, size_t bytes);
/* Of all its files. */
int64_t manifest_bytes(const struct manifest *m);
/* The file of that name, and the tensor in it, or NULL. */
const struct manifest_file *manifest_find(const struct manifest *m, const char *name);
const struct manifest_tensor *manifest_tensor(const struct manifest_file *f, const char *name);
/* Its text; caller frees. */
char *manifest_text(const struct manifest *m);
/* From dir/manifest.json. -1: status 2; missing, not JSON, incomplete, its sum is wrong, or `refused`. */
int manifest_read(struct manifest *m, const char *dir);
/* The same from its text; `where` names it in errors. */
int manifest_parse(struct manifest *m, const char *text, size_t bytes, const char *where);
void manifest_release(struct manifest *m);

#endif

/* SPDX-License-Identifier: MIT */
/* A directory that another is packed as the difference from. */
#ifndef PACK_BASE_H
#define PACK_BASE_H

#include <stdbool.h>
#include <stdint.h>

#include "pack/index.h"
#include "tensors/safetensors.h"

struct base_tensor {
    char *name;
    char dtype[16];
    int64_t bytes;
    int file;
    int64_t at; /* in the file */
};

struct pack_base {
    char *dir;
    uint32_t sum; /* what identifies it: its manifest's, or (no step directory) of its files' names and sizes */
    char **files; /* those that hold tensors */
    int file_count;
    struct base_tensor *tensors; /* sorted by name */
    int count;
};

/* With the tensors, or (tensors false) the sum alone. -1: no directory of safetensors files, or not whole. */
int base_open(struct pack_base *b, const char *dir, bool tensors);
void base_release(struct pack_base *b);
/* The tensor of this name, dtype and size, or NULL. */
const struct base_tensor *base_find(const struct pack_base *b, const struct st_tensor *t);

/* A file of a directory that is read in pieces, and kept open until another is asked for. */
struct kept_file {
    int fd; /* -1: none */
    char *name;
};
/* Bytes of dir/name. -1 with error(). */
int kept_read(struct kept_file *k, const char *dir, const char *name, void *p, int64_t bytes, int64_t at);
void kept_close(struct kept_file *k);

/* Bytes [at,at+n) of what the file's members hold, which lie at p: those that the base (a directory) has
 * too are xor'ed with it. `scratch`: room for n bytes. -1 with error(). */
int base_xor(struct kept_file *k, const char *dir, const struct packed_file *f, int64_t at, int64_t n,
             uint8_t *p, uint8_t *scratch);

#endif

/* SPDX-License-Identifier: MIT */
/* One safetensors file: u64 header size, JSON header, data (huggingface/safetensors README). */
#ifndef TENSORS_SAFETENSORS_H
#define TENSORS_SAFETENSORS_H

#include <stdint.h>
#include <stdio.h>

struct st_tensor {
    char *name;
    char dtype[16]; /* F32 BF16 F16 I64 … */
    int dims;
    int64_t *shape;     /* [dims] */
    int64_t begin, end; /* bytes from the start of the data */
};

struct st_file {
    char *path;
    int fd;
    int64_t data;              /* offset of the data in the file */
    int64_t size;              /* of the file */
    uint32_t header_crc;       /* crc32 of what is before the data */
    struct st_tensor *tensors; /* in order of `begin` */
    int *by_name;              /* the same in order of their names */
    int count;
    char **metadata; /* key, value, …, NULL */
};

/* Opens and checks: header size, JSON, dtypes, shapes × size = bytes, offsets inside the file, no overlap, no
 * hole. What the safetensors library refuses is refused. What it accepts is accepted but for what no writer
 * writes and the format does not have: a name twice, a NUL in a name, a list in an object's place, numbers of
 * 2^63 or more (t/0710-oracle-files.t has the list). -1: status 2, naming file and tensor. */
int st_open(struct st_file *f, const char *path);
void st_close(struct st_file *f);
const struct st_tensor *st_find(const struct st_file *f, const char *name);
int st_dtype_bits(const char *dtype); /* of one element; 0: unknown */
/* "[256,64]" for messages, into buf, which it returns; a shape too long for it ends in "…". */
char *st_shape_text(const struct st_tensor *t, char buf[static 192]);

#endif

/* SPDX-License-Identifier: MIT */
/* A directory of safetensors files, as transformers opens it: model.safetensors if it is there, whatever else
 * is; then the files that model.safetensors.index.json names. One that has neither is no model to transformers
 * (`loose`): all its safetensors files are taken then. */
#ifndef TENSORS_HFDIR_H
#define TENSORS_HFDIR_H

#include <stdbool.h>

#include "base/json.h"
#include "tensors/safetensors.h"

#define INDEX_FILE  "model.safetensors.index.json"
#define SINGLE_FILE "model.safetensors"

struct hf_file {
    char *name; /* in the directory */
    struct st_file st;
    bool open; /* its header is known; its descriptor may be closed meanwhile */
    int turn;  /* when it was last read */
    char *why; /* it cannot be opened: the error, said again each time */
    int status;
};

/* A tensor's name and the file that should hold it. */
struct hf_name {
    char *name;
    int file;
};

struct hf_dir {
    char *path;
    struct hf_file *files;
    int file_count;
    struct hf_name *names; /* sorted by name */
    int name_count;
    int turn, open_count;
    uint32_t index_crc; /* crc32 of the index; 0: there is none */
    bool loose;         /* neither one file nor an index says which files are the model's */
    char **unread;      /* [unread_count] sorted: files of weights in the directory that are not the model's */
    int unread_count;
};

/* Reads the index, or the headers where there is none. Files named by the index are opened when first asked
 * for. -1: status 2 for a directory that holds no safetensors files, a bad index, a bad file. */
int hf_open(struct hf_dir *d, const char *path);
/* A notice that says which files are read and names one that is not, if there are any: two sets of weights in
 * one directory need not be the same. For whoever computes with them. */
void hf_say_unread(const struct hf_dir *d);
void hf_close(struct hf_dir *d);

/* The tensor and its file. NULL when it is not there; *failed then says whether the reason is a bad file
 * (error() is set). */
const struct st_tensor *hf_find(struct hf_dir *d, const char *name, int *file, bool *failed);
bool hf_has(const struct hf_dir *d, const char *name);
/* The first of `names` that is not before this one; name_count when there is none. */
int hf_name_from(const struct hf_dir *d, const char *name);
/* The file's header, opening it if it was not. NULL with error() set. */
const struct st_file *hf_file(struct hf_dir *d, int file);
/* Bytes of a file's data. */
int hf_read(struct hf_dir *d, int file, void *p, int64_t bytes, int64_t offset);
/* The file with this name in the directory, added when new. */
int hf_file_named(struct hf_dir *d, const char *name);
/* What is to be seen of the files: a line each with its absolute path, size, and checksums of what its header
 * says and of some of its data, so that two hosts can find whether they read the same. Caller frees; NULL with
 * error() set. */
char *hf_seen(struct hf_dir *d);

#endif

/* SPDX-License-Identifier: MIT */
/* What a checkpoint holds, as text for people and as JSON. */
#ifndef CKPT_LIST_H
#define CKPT_LIST_H

#include <stdbool.h>
#include <stdio.h>

enum list_form { LIST_FILES, LIST_TENSORS, LIST_EXPERTS };

struct list_request {
    const char
        *path; /* a step directory, any Hugging Face directory, or (LIST_FILES) a root: a line a whole step */
    enum list_form form; /* as JSON, LIST_FILES has each file's tensors */
    bool json;
    bool stats; /* with figures of the numbers, which are read then. Not of LIST_FILES unless as JSON */
};

/* -1: status 2. */
int list_dir(const struct list_request *r, FILE *out);

#endif

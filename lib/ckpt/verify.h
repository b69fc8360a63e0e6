/* SPDX-License-Identifier: MIT */
/* Whether a directory is a whole, valid checkpoint. */
#ifndef CKPT_VERIFY_H
#define CKPT_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "ckpt/problems.h"

struct verified {
    struct problems problems;
    bool step; /* a step directory (everything is read and summed); else any HF directory (headers and index) */
    int files, tensors;
    int64_t bytes;
};

/* Fills v, problems included. -1 only when path does not exist, cannot be read, or is for a newer moekit
 * (status 2 or 3). */
int verify_dir(struct verified *v, const char *path);
void verified_release(struct verified *v);
/* Whether the directory is, or was meant to be, one of ours: by what is in it. Its name says nothing: other
 * trainers have directories called step-1000 too, and files called manifest.json. */
bool is_step_dir(const char *path);

#endif

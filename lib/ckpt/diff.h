/* SPDX-License-Identifier: MIT */
/* Two directories of tensors, number by number. */
#ifndef CKPT_DIFF_H
#define CKPT_DIFF_H

#include <stdbool.h>

enum diff_kind { DIFF_VALUES, DIFF_SHAPE, DIFF_ONLY_A, DIFF_ONLY_B };

struct tensor_diff {
    char *name;
    enum diff_kind kind;
    double max_abs;  /* largest |a−b|; NaN when any difference is */
    double relative; /* ‖a−b‖/‖b‖; 0 where both are 0 */
    bool
        same; /* every value has the same bits (after conversion to f32 where dtypes differ), and none is NaN */
    bool beyond; /* the tolerance */
};

struct diff {
    struct tensor_diff *list; /* those that differ, worst first */
    int count, beyond, tensors;
};

/* `optimizer`: also the files under optimizer/. tolerance 0: the same bits. 0 or -1 (status 2 for bad input).
 */
int diff_dirs(struct diff *d, const char *a, const char *b, double tolerance, bool optimizer);
void diff_release(struct diff *d);

#endif

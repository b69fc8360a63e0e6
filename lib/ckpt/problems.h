/* SPDX-License-Identifier: MIT */
/* What is wrong with a checkpoint, noted by several threads. */
#ifndef CKPT_PROBLEMS_H
#define CKPT_PROBLEMS_H

enum { MOST_PROBLEMS = 100 };

struct problems {
    char **list; /* sentences naming file and tensor; the first MOST_PROBLEMS of them, none twice */
    int count;   /* of all */
};

/* Safe from any thread. */
void problem(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void problems_release(struct problems *p);

#endif

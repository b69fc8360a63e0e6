/* SPDX-License-Identifier: MIT */
/* What is wrong with a checkpoint, noted by several threads. */
#ifndef CKPT_PROBLEMS_H
#define CKPT_PROBLEMS_H

#include <stdbool.h>

enum { MOST_PROBLEMS = 100 };

struct problems {
    char **list;     /* sentences naming file and tensor; the first MOST_PROBLEMS of them, none twice */
    int count;       /* of all */
    bool unreadable; /* among them: a file that is there and cannot be read */
};

/* Safe from any thread. */
void problem(struct problems *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void problem_unreadable(struct problems *p); /* the one just noted is */
/* The first, and how many more there are, as error(): -1 with status 2, or 3 where something is unreadable. 0
 * when there is none. */
int problems_error(const struct problems *p);
void problems_release(struct problems *p);

#endif

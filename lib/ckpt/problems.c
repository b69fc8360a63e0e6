/* SPDX-License-Identifier: MIT */
#include "ckpt/problems.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void problem(struct problems *p, const char *fmt, ...)
{
    char text[1500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&lock);
    if (!p->list)
        p->list = xcalloc(MOST_PROBLEMS, sizeof *p->list);
    bool known = false; /* a bad file is met once a tensor */
    for (int i = 0; i < p->count && i < MOST_PROBLEMS; i++)
        known |= strcmp(p->list[i], text) == 0;
    if (!known && p->count < MOST_PROBLEMS)
        p->list[p->count] = xstrdup(text);
    p->count += !known;
    pthread_mutex_unlock(&lock);
}

void problem_unreadable(struct problems *p)
{
    pthread_mutex_lock(&lock);
    p->unreadable = true;
    pthread_mutex_unlock(&lock);
}

int problems_error(const struct problems *p)
{
    if (!p->count)
        return 0;
    enum status s = p->unreadable ? STATUS_ENV : STATUS_USAGE;
    return p->count > 1 ? error(s, "%s, and %d more", p->list[0], p->count - 1) : error(s, "%s", p->list[0]);
}

void problems_release(struct problems *p)
{
    for (int i = 0; i < p->count && i < MOST_PROBLEMS; i++)
        free(p->list[i]);
    free(p->list);
    *p = (struct problems){0};
}

/* SPDX-License-Identifier: MIT */
#include "failure.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char text[512];

void failure_set(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    pthread_mutex_lock(&lock);
    if (!*text)
        vsnprintf(text, sizeof text, fmt, ap);
    pthread_mutex_unlock(&lock);
    va_end(ap);
}

bool failure_kept(void)
{
    pthread_mutex_lock(&lock);
    bool kept = *text;
    pthread_mutex_unlock(&lock);
    return kept;
}

int failure_take(void)
{
    char copy[sizeof text];
    pthread_mutex_lock(&lock);
    memcpy(copy, text, sizeof text);
    *text = 0;
    pthread_mutex_unlock(&lock);
    return *copy ? error(STATUS_ENV, "%s", copy) : 0;
}

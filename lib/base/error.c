/* SPDX-License-Identifier: MIT */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char text[2048];
static _Thread_local enum status status;

int error(enum status s, const char *fmt, ...)
{
    char line[sizeof text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    memcpy(text, line, sizeof text); /* the arguments may point into text */
    status = s;
    return -1;
}

int error_errno(const char *fmt, ...)
{
    int e = errno;
    char line[sizeof text / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    bool usage = e == ENOENT || e == ENOTDIR || e == EISDIR;
    return error(usage ? STATUS_USAGE : STATUS_ENV, "%s: %s", line, strerror(e));
}

int error_prefix(const char *fmt, ...)
{
    char line[sizeof text / 2];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    return error(status, "%s: %.*s", line, (int)(sizeof text - sizeof line - 4), text);
}

const char *error_text(void)
{
    return text;
}

enum status error_status(void)
{
    return status;
}

void error_clear(void)
{
    text[0] = '\0';
    status = STATUS_DONE;
}

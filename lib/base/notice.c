/* SPDX-License-Identifier: MIT */
#include "base/notice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/process.h"

static const char *name;
static int level = NOTICE_SILENT;
static bool show_progress, terminal, drawn;
static double last_s;

void notice_open(const char *command, int lvl, int want_progress)
{
    name = command;
    level = lvl;
    terminal = isatty(STDERR_FILENO);
    show_progress = lvl >= NOTICE_NORMAL && (want_progress < 0 ? terminal : want_progress);
}

static void say(const char *fmt, va_list ap)
{
    progress_end();
    flockfile(stderr);
    fprintf(stderr, "%s: ", name);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    funlockfile(stderr);
}

bool is_quiet(void)
{
    return level < NOTICE_NORMAL;
}

void complain(const char *fmt, ...)
{
    if (!name || level < NOTICE_QUIET)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void notice(const char *fmt, ...)
{
    if (!name || level < NOTICE_NORMAL)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void verbose(const char *fmt, ...)
{
    if (!name || level < NOTICE_VERBOSE)
        return;
    va_list ap;
    va_start(ap, fmt);
    say(fmt, ap);
    va_end(ap);
}

void progress_text(bool last, const char *fmt, ...)
{
    if (!show_progress || (!last && now_s() - last_s < (terminal ? 0.2 : 5)))
        return;
    last_s = now_s();
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "%s%s: ", terminal ? "\r\033[K" : "", name);
    vfprintf(stderr, fmt, ap);
    fputs(terminal ? "" : "\n", stderr);
    va_end(ap);
    drawn = terminal;
}

void progress(const char *what, uint64_t done, uint64_t total, const char *unit)
{
    progress_text(done >= total, "%s %" PRIu64 "/%" PRIu64 " %s", what, done, total, unit);
}

void progress_end(void)
{
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}

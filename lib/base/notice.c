/* SPDX-License-Identifier: MIT */
#include "base/notice.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
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

void progress(const char *what, uint64_t done, uint64_t total, const char *unit)
{
    if (!show_progress)
        return;
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    double now_s = ts.tv_sec + 1e-9 * ts.tv_nsec;
    if (done < total && now_s - last_s < 0.2)
        return;
    last_s = now_s;
    fprintf(stderr, "%s%s: %s %" PRIu64 "/%" PRIu64 " %s%s", terminal ? "\r\033[K" : "", name, what, done,
            total, unit, terminal ? "" : "\n");
    drawn = terminal;
}

void progress_end(void)
{
    if (drawn)
        fputs("\r\033[K", stderr);
    drawn = false;
}

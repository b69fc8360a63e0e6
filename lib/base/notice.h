/* SPDX-License-Identifier: MIT */
/* Talk on stderr. A library says things through notice(); they are printed only when a command asked for it
 * with notice_open(), each line headed by the command's name. Progress is one line, redrawn on a terminal. */
#ifndef BASE_NOTICE_H
#define BASE_NOTICE_H

#include <stdbool.h>
#include <stdint.h>

enum notice_level { NOTICE_SILENT = -2, NOTICE_QUIET = -1, NOTICE_NORMAL = 0, NOTICE_VERBOSE = 1 };

/* `name` is kept. Until this is called notices go nowhere. `progress`: 1 on, 0 off, -1 when stderr is a
 * terminal; off with less than NOTICE_NORMAL. */
void notice_open(const char *name, int level, int progress);
/* Something went wrong that does not end the command: -q does not hush it. */
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void notice(const char *fmt, ...) __attribute__((format(printf, 1, 2)));  /* unless quiet */
void verbose(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* with -v */

/* Whether notices are hushed. */
bool is_quiet(void);

/* Shows `what: done/total unit` at most five times a second, where stderr is no terminal once in five seconds,
 * and the end always. */
void progress(const char *what, uint64_t done, uint64_t total, const char *unit);
/* The same with other words than these; `last` is shown always. */
void progress_text(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_end(void); /* clears the line, if one is drawn */

#endif

/* SPDX-License-Identifier: MIT */
/* Errors: a library function that fails calls error() and returns what it returns, -1 (or NULL).
 * The text and the exit status wait in thread-local storage, as errno does, until a command prints them.
 * Texts are lowercase, have no full stop, put names in 'quotes', and begin with file:line:column where there is
 * one. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

enum status {
    STATUS_DONE = 0,
    STATUS_NO = 1,       /* the answer is no: plan invalid, checkpoint not whole, loss diverged */
    STATUS_USAGE = 2,    /* bad usage or bad input: trying again cannot help */
    STATUS_ENV = 3,      /* the environment failed: I/O, MPI, memory */
    STATUS_REQUEUE = 75, /* stopped at a checkpoint: run the same line again */
};

/* Records the failure and returns -1. A later call replaces an earlier one. */
int error(enum status status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As error(), then ": " and strerror(errno); status is STATUS_ENV, or STATUS_USAGE for a file that is not
 * there. */
int error_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Puts "PREFIX: " before the recorded text; returns -1. */
int error_prefix(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* In a function that returns what it calls returns: -1 at the first failure. */
#define TRY(call)                                                                                              \
    do {                                                                                                       \
        if ((call) < 0)                                                                                        \
            return -1;                                                                                         \
    } while (0)

const char *error_text(void);
enum status error_status(void);
void error_clear(void);

#endif

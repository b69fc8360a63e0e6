/* SPDX-License-Identifier: MIT */
/* Command lines. One table of options drives parsing (getopt_long), -h and --values, and through these the
 * completions and the check of the man pages. -h, --help, --version, --values, -q, -v and --progress are in
 * every command without being listed. */
#ifndef BASE_OPTIONS_H
#define BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/words.h"

enum opt_kind {
    OPT_FLAG,   /* bool *: set to true */
    OPT_TEXT,   /* const char ** */
    OPT_INT,    /* int64_t *, within [min,max] */
    OPT_NUM,    /* double *, within [min,max] */
    OPT_BELOW,  /* double *, within [min,max) */
    OPT_CHOICE, /* const char **, one of `choices` (separated by |) or of `words` */
    OPT_CALL,   /* int (*)(const char *arg, void *value): 0, or -1 with error() set */
};

struct opt {
    char letter;      /* short option, or 0 */
    const char *name; /* long option; NULL: a heading, `help` is its text */
    const char *arg;  /* what the argument is called in -h; NULL for a flag */
    const char *help; /* %s in it: what can be chosen */
    enum opt_kind kind;
    void *value;
    double min, max;
    const char *choices; /* of another kind: words that it takes besides, for --values */
    int (*call)(const char *arg, void *value);
    const struct words *words; /* of a table */
    const char *presets;       /* a folder of presets whose names it takes (base/presets.h), or NULL */
};

/* What a command of several does, by its first operand. */
struct verb {
    const char *name;                  /* NULL ends a table */
    int (*run)(int argc, char **argv); /* argv[0] is the verb; an exit status, or -1 with error() */
    const struct command *command;
};

struct command {
    const char *name;     /* "moe-partition" or "moe-ckpt list" */
    const char *synopsis; /* usage lines without "usage:", separated by newlines */
    const char *about;    /* one sentence, lowercase, no full stop */
    const struct opt *opts;
    int count;
    const char *notes;            /* after the options, or NULL */
    const struct verb *verbs;     /* -h lists them, with what each is about; or NULL */
    const char *operand;          /* the first operand, as the synopsis calls it, where it is */
    const struct words *operands; /* one of these; or NULL */
};

#define OPTS(table) .opts = (table), .count = (int)(sizeof(table) / sizeof *(table))

/* Parses argv[1…]; operands end up in argv[first…argc-1] (options may come after operands). Prints and exits
 * for -h, --version and --values; opens notices (-q, -v, --progress). Returns `first`, or -1 with error() set,
 * status 2.
 * An option given is remembered: option_given(table entry's name). */
int options_parse(const struct command *c, int argc, char **argv);
bool option_given(const char *name);
/* "a, b or c": what an OPT_CHOICE takes. */
void option_choices(const struct opt *o, char *buf, size_t room);
/* The version, and what was given, a line "--NAME: ARGUMENT" each in the order of the table, without those
 * that all commands have: to see whether two processes were started alike. Caller frees. */
char *options_given(const struct command *c);

/* For an error about what is no verb: "is search meant? ", or "" where it is like none. Static buffer. */
const char *verb_meant(const struct verb *verbs, const char *text);

/* For main(): prints "NAME: error text" and returns the recorded exit status. */
int command_failed(const struct command *c);

#endif

/* SPDX-License-Identifier: MIT */
#include "base/options.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/help.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/presets.h"

#define MAX_OPTS 96

static bool quiet_flag, verbose_flag, progress_flag;
static const struct opt standard[] = {
    {'q', "quiet", NULL, "say only what went wrong", OPT_FLAG, &quiet_flag},
    {'v', "verbose", NULL, "say more", OPT_FLAG, &verbose_flag},
    {0, "progress", NULL, "show progress even when stderr is not a terminal", OPT_FLAG, &progress_flag},
    {0, "values", "NAME", "list what this option or operand can be; 1 if not that alone", OPT_TEXT},
    {'h', "help", NULL, "show this text", OPT_FLAG, NULL},
    {0, "version", NULL, "show the version", OPT_FLAG, NULL},
};
enum { STANDARD = sizeof standard / sizeof *standard };

static struct {
    const char *name, *arg;
} given[MAX_OPTS];
static int givens;

/* What an OPT_CHOICE takes, as "a|b|c": its choices, then its words. */
static void choices_of(const struct opt *o, char *buf, size_t room)
{
    size_t used = (size_t)snprintf(buf, room, "%s", o->choices ? o->choices : "");
    for (int i = 0; o->words && word_at(o->words, i) && used < room; i++)
        used += (size_t)snprintf(buf + used, room - used, "%s%s", used ? "|" : "", word_at(o->words, i));
}

void option_choices(const struct opt *o, char *buf, size_t room)
{
    char choices[200];
    choices_of(o, choices, sizeof choices);
    const char *last = strrchr(choices, '|');
    size_t used = 0;
    *buf = '\0';
    for (const char *p = choices; *p && used < room; p++) {
        const char *between = p == last ? " or " : ", ";
        used += (size_t)(*p == '|' ? snprintf(buf + used, room - used, "%s", between)
                                   : snprintf(buf + used, room - used, "%c", *p));
    }
}

static bool one_of(const char *choices, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = choices; *p; p += strcspn(p, "|"), p += *p == '|')
        if (strcspn(p, "|") == n && strncmp(p, word, n) == 0)
            return n > 0;
    return false;
}

static int take_choice(const struct opt *o, const char *arg)
{
    char choices[200], list[200];
    choices_of(o, choices, sizeof choices);
    option_choices(o, list, sizeof list);
    if (!one_of(choices, arg))
        return error(STATUS_USAGE, "--%s takes %s, not '%s'", o->name, list, arg);
    *(const char **)o->value = arg;
    return 0;
}

static int take(const struct opt *o, const char *arg)
{
    char low[32], high[32];
    int64_t i;
    switch (o->kind) {
    case OPT_FLAG:
        *(bool *)o->value = true;
        return 0;
    case OPT_TEXT:
        *(const char **)o->value = arg;
        return 0;
    case OPT_INT:
        if (!parse_int(arg, (int64_t)o->min, (int64_t)o->max, &i))
            return error(STATUS_USAGE, "--%s takes a whole number from %.0f to %.0f, not '%s'", o->name, o->min,
                         o->max, arg);
        *(int64_t *)o->value = i;
        return 0;
    case OPT_NUM:
        if (!parse_num(arg, o->min, o->max, o->value))
            return error(STATUS_USAGE, "--%s takes a number from %s to %s, not '%s'", o->name,
                         exact_num(o->min, low), exact_num(o->max, high), arg);
        return 0;
    case OPT_BELOW:
        if (!parse_num(arg, o->min, nextafter(o->max, o->min), o->value))
            return error(STATUS_USAGE, "--%s takes a number from %s to less than %s, not '%s'", o->name,
                         exact_num(o->min, low), exact_num(o->max, high), arg);
        return 0;
    case OPT_CHOICE:
        return take_choice(o, arg);
    case OPT_CALL:
        return o->call(arg, o->value) < 0 ? error_prefix("--%s", o->name) : 0;
    }
    return -1;
}

bool option_given(const char *name)
{
    for (int i = 0; i < givens; i++)
        if (strcmp(given[i].name, name) == 0)
            return true;
    return false;
}

char *options_given(const struct command *c)
{
    char *text = xasprintf("%s: %s\n", c->name, VERSION);
    for (int i = 0; i < c->count; i++)
        for (int g = 0; g < givens && c->opts[i].name; g++) {
            if (strcmp(given[g].name, c->opts[i].name) != 0)
                continue;
            char *longer =
                xasprintf("%s--%s: %s\n", text, given[g].name, given[g].arg ? given[g].arg : "given");
            free(text);
            text = longer;
            break;
        }
    return text;
}

/* Of several of one name the last counts. */
static void note_given(const char *name, const char *arg)
{
    int i = 0;
    while (i < givens && strcmp(given[i].name, name) != 0)
        i++;
    given[i] = (typeof(*given)){name, arg};
    givens = i == givens ? i + 1 : givens;
}

/* Which of the tables' options getopt's value `v` is (1000 + index for every option). */
static const struct opt *find(const struct command *c, int v)
{
    int i = v - 1000;
    return i < c->count ? &c->opts[i] : &standard[i - c->count];
}

static int letter_index(const struct command *c, int letter)
{
    for (int i = 0; i < c->count + STANDARD; i++)
        if (find(c, 1000 + i)->name && find(c, 1000 + i)->letter == letter)
            return 1000 + i;
    return -1;
}

/* Nobody's option: it may be the beginning of several, or one mistyped. */
static int no_option(const struct command *c, const char *name)
{
    const char *names[MAX_OPTS + 1] = {0};
    const char *text = strncmp(name, "--", 2) == 0 ? name + 2 : "";
    char some[200] = "";
    int begins = 0;
    for (int i = 0, n = 0; i < c->count + STANDARD && n < MAX_OPTS; i++) {
        const struct opt *o = find(c, 1000 + i);
        size_t used = strlen(some);
        if (!o->name)
            continue;
        names[n++] = o->name;
        if (*text && strncmp(o->name, text, strlen(text)) == 0 && begins++ < 6)
            snprintf(some + used, sizeof some - used, "%s--%s", used ? ", " : "", o->name);
    }
    if (begins > 1)
        return error(STATUS_USAGE, "option '%s' may be %s%s (see '%s -h')", name, some,
                     begins > 6 ? " and more" : "", c->name);
    struct words all = WORDS(names);
    if (*text && words_near(&all, text, "--", some, sizeof some))
        return error(STATUS_USAGE, "no option '%s': is %s meant? (see '%s -h')", name, some, c->name);
    return error(STATUS_USAGE, "no option '%s' (see '%s -h')", name, c->name);
}

static int bad_option(const struct command *c, int v, char **argv)
{
    char name[64];
    if (optopt >= 1000)
        snprintf(name, sizeof name, "--%s", find(c, optopt)->name);
    else if (optopt)
        snprintf(name, sizeof name, "-%c", optopt);
    else
        snprintf(name, sizeof name, "%.*s", (int)strcspn(argv[optind - 1], "="), argv[optind - 1]);
    if (v == ':')
        return error(STATUS_USAGE, "option '%s' needs an argument", name);
    if (optopt >= 1000)
        return error(STATUS_USAGE, "option '%s' takes no argument", name);
    return no_option(c, name);
}

/* ---- --values ---- */

/* Prints what an option can be where that is a list, a line each; whether it can be nothing else. */
static bool show_values(const struct opt *o)
{
    char choices[200];
    bool counted = o->kind == OPT_INT && o->max - o->min < 10;
    choices_of(o, choices, sizeof choices);
    for (char *p = choices; *p; p++)
        *p = *p == '|' ? '\n' : *p;
    if (*choices)
        puts(choices);
    for (int64_t i = (int64_t)o->min; counted && i <= (int64_t)o->max; i++)
        printf("%lld\n", (long long)i);
    char *names = o->presets ? preset_names(o->presets, "\n") : NULL;
    if (names && *names)
        puts(names);
    free(names);
    return o->kind == OPT_CHOICE || o->words || counted;
}

/* NAME as it is typed, or without its dashes; or the operand's. -1 with error(). */
static int answer_values(const struct command *c, const char *name)
{
    if (c->operand && strcmp(name, c->operand) == 0)
        return show_values(&(struct opt){.kind = OPT_CHOICE, .words = c->operands}) ? STATUS_DONE : STATUS_NO;
    if (name[0] == '-' && name[1] && name[1] != '-' && !name[2] && letter_index(c, name[1]) >= 0)
        return show_values(find(c, letter_index(c, name[1]))) ? STATUS_DONE : STATUS_NO;
    const char *text = strncmp(name, "--", 2) == 0 ? name + 2 : name;
    for (int i = 0; i < c->count + STANDARD; i++) {
        const struct opt *o = find(c, 1000 + i);
        if (o->name && strcmp(o->name, text) == 0)
            return show_values(o) ? STATUS_DONE : STATUS_NO;
    }
    return no_option(c, name) < 0 ? error_prefix("--values") : -1;
}

int options_parse(const struct command *c, int argc, char **argv)
{
    struct option longs[MAX_OPTS + 1] = {0};
    char shorts[2 * MAX_OPTS + 2] = ":";
    int n = 0, s = 1;
    for (int i = 0; i < c->count + STANDARD && n < MAX_OPTS; i++) {
        const struct opt *o = find(c, 1000 + i);
        if (!o->name)
            continue;
        longs[n++] = (struct option){o->name, o->arg ? required_argument : no_argument, NULL, 1000 + i};
        if (o->letter) {
            shorts[s++] = o->letter;
            if (o->arg)
                shorts[s++] = ':';
        }
    }
    shorts[s] = '\0';
    standard_streams();
    opterr = 0;
    optind = 0; /* start anew: a command with verbs parses twice */
    givens = 0;
    notice_open(c->name, NOTICE_NORMAL, -1);
    for (int v; (v = getopt_long(argc, argv, shorts, longs, NULL)) != -1;) {
        if (v == '?' || v == ':')
            return bad_option(c, v, argv);
        if (v < 1000)
            v = letter_index(c, v);
        const struct opt *o = find(c, v);
        if (strcmp(o->name, "help") == 0) {
            help_print(c, standard, STANDARD);
            exit(stdout_close() < 0 ? STATUS_ENV : STATUS_DONE);
        }
        if (strcmp(o->name, "version") == 0) {
            printf("%s (moekit) %s\n", c->name, VERSION);
            exit(stdout_close() < 0 ? STATUS_ENV : STATUS_DONE);
        }
        if (strcmp(o->name, "values") == 0) {
            int status = answer_values(c, optarg);
            if (status < 0)
                return -1;
            exit(stdout_close() < 0 ? STATUS_ENV : status);
        }
        if (take(o, optarg) < 0)
            return -1;
        note_given(o->name, optarg);
    }
    notice_open(c->name,
                quiet_flag     ? NOTICE_QUIET
                : verbose_flag ? NOTICE_VERBOSE
                               : NOTICE_NORMAL,
                progress_flag ? 1 : -1);
    return optind;
}

const char *verb_meant(const struct verb *verbs, const char *text)
{
    static char meant[120];
    char near[80];
    struct words all = {verbs, sizeof *verbs};
    *meant = '\0';
    if (words_near(&all, text, "", near, sizeof near))
        snprintf(meant, sizeof meant, "is %s meant? ", near);
    return meant;
}

int command_failed(const struct command *c)
{
    progress_end();
    fprintf(stderr, "%s: %s\n", c->name, error_text());
    return error_status();
}

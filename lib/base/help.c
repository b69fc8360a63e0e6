/* SPDX-License-Identifier: MIT */
#include "base/help.h"

#include <stdio.h>
#include <string.h>

#define OPTION_COLUMN 30 /* where the explanations of options begin */
#define VERB_COLUMN   12 /* and those of verbs */

/* Columns of n bytes of UTF-8. */
static int columns(const char *text, size_t n)
{
    int width = 0;
    for (size_t i = 0; i < n; i++)
        width += ((unsigned char)text[i] & 0xC0) != 0x80;
    return width;
}

/* Bytes to the next blank or newline; with `whole` not to one in brackets, which are kept together. */
static size_t word_length(const char *text, bool whole)
{
    int depth = 0;
    size_t n = 0;
    for (; text[n] && text[n] != '\n' && (text[n] != ' ' || depth > 0); n++)
        if (whole)
            depth += (text[n] == '[') - (text[n] == ']');
    return n;
}

/* Prints `text` from column `at` on and ends the line; lines after the first begin at `indent`. */
static void fill(const char *text, int at, int indent, bool whole)
{
    bool first = true; /* in its line */
    while (*text) {
        size_t n = word_length(text, whole);
        int width = columns(text, n);
        if (!first && at + 1 + width > HELP_WIDTH) {
            printf("\n%*s", indent, "");
            at = indent;
        } else if (!first) {
            putchar(' ');
            at++;
        }
        printf("%.*s", (int)n, text);
        at += width;
        text += n;
        first = *text == '\n';
        if (first) {
            printf("\n%*s", text[1] ? indent : 0, "");
            at = indent;
        }
        text += *text != '\0';
    }
    putchar('\n');
}

static void print_option(const struct opt *o)
{
    char left[80], list[200], help[400];
    if (!o->name) {
        printf("\n%s\n", o->help);
        return;
    }
    option_choices(o, list, sizeof list);
    const char *here = strstr(o->help, "%s");
    if (here)
        snprintf(help, sizeof help, "%.*s%s%s", (int)(here - o->help), o->help, list, here + 2);
    else
        snprintf(help, sizeof help, "%s", o->help);
    int n = snprintf(left, sizeof left, "  %c%c%s --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
                     o->letter ? "," : " ", o->name, o->arg ? " " : "", o->arg ? o->arg : "");
    int width = columns(left, (size_t)n);
    if (width + 2 > OPTION_COLUMN)
        printf("%s\n%*s", left, OPTION_COLUMN, "");
    else
        printf("%s%*s", left, OPTION_COLUMN - width, "");
    fill(help, OPTION_COLUMN, OPTION_COLUMN, false);
}

static void print_usage(const struct command *c)
{
    char line[400];
    const char *head = "usage:";
    int indent = 7 + (int)strlen(c->name) + 1;
    for (const char *p = c->synopsis; *p; p += *p == '\n') {
        size_t n = strcspn(p, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, p);
        printf("%-6s ", head);
        fill(line, 7, indent, true);
        p += n;
        head = "";
    }
}

void help_print(const struct command *c, const struct opt *all_have, int count)
{
    char list[200];
    print_usage(c);
    putchar('\n');
    fill(c->about, 0, 0, false);
    putchar('\n');
    for (const struct verb *v = c->verbs; v && v->name; v++) {
        printf("  %-*s", VERB_COLUMN - 2, v->name);
        fill(v->command->about, VERB_COLUMN, VERB_COLUMN, false);
    }
    if (c->verbs && c->count)
        putchar('\n');
    for (int i = 0; i < c->count; i++)
        print_option(&c->opts[i]);
    if (c->verbs || c->count)
        putchar('\n');
    for (int i = 0; i < count; i++)
        print_option(&all_have[i]);
    if (c->operand || c->notes)
        putchar('\n');
    if (c->operand)
        printf("%s: %s.\n", c->operand, words_text(c->operands, list, sizeof list));
    if (c->notes)
        fill(c->notes, 0, 0, false);
}

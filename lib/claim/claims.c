/* SPDX-License-Identifier: MIT */
#include "claim/claims.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/presets.h"
#include "claim/facts.h"

enum { MAX_BYTES = 1 << 20 };

/* The line that is read: a copy, cut at its comment. */
struct claim_line {
    const char *where;
    int number;
    char text[CLAIM_TEXT];
    const char *name; /* in text */
    char *parts[4];   /* a copy of the name, cut up: NAME, ARG… */
    int part_count;
    const char *rest; /* behind the name */
};

static int bad(const struct claim_line *l, const char *at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static int bad(const struct claim_line *l, const char *at, const char *fmt, ...)
{
    char text[1800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return error(STATUS_USAGE, "%s:%d:%d: %s", l->where, l->number, (int)(at - l->text) + 1, text);
}

/* Where a part of the name stands. */
static const char *part_at(const struct claim_line *l, int part)
{
    return l->name + (l->parts[part] - l->parts[0]);
}

/* error() of someone else, at a place. */
static int at_place(const struct claim_line *l, const char *at)
{
    return error_prefix("%s:%d:%d", l->where, l->number, (int)(at - l->text) + 1);
}

/* ---- values ---- */

static int take_bound(const struct claim_line *l, struct claim *c, enum unit unit)
{
    const char *at, *rest = bound_parse(&c->bound, l->rest, unit, &at);
    if (!rest)
        return at_place(l, at);
    return *rest ? bad(l, rest, "'%s' after the value", rest) : 0;
}

/* What is equal to a word or a list: the text behind `=`, NULL with error(). */
static const char *take_equal(const struct claim_line *l, struct claim *c)
{
    const char *p = l->rest;
    if (*p != '=' || p[1] == '=' || p[1] == '<' || p[1] == '>') {
        bad(l, p, "only = says what this is");
        return NULL;
    }
    strcpy(c->bound.op, "=");
    p += 1 + strspn(p + 1, " \t");
    if (!*p)
        bad(l, p, "nothing behind =");
    return *p ? p : NULL;
}

/* "12", "4i", "i", "4i+3": constant and how often i; false when it is none. */
static bool take_term(const char **p, bool with_i, int64_t *constant, int64_t *step)
{
    char *end;
    bool digits = isdigit((unsigned char)**p);
    long long n = digits ? strtoll(*p, &end, 10) : 1;
    const char *q = digits ? end : *p;
    *constant = *step = 0;
    if (n < 0 || n > 1 << 20)
        return false;
    if (*q != 'i' || !with_i) {
        *constant = n;
        *p = q;
        return digits;
    }
    *step = n;
    q++;
    if (*q == '+') {
        if (!isdigit((unsigned char)q[1]))
            return false;
        n = strtoll(q + 1, &end, 10);
        if (n < 0 || n > 1 << 20)
            return false;
        *constant = n;
        q = end;
    }
    *p = q;
    return true;
}

static int take_ranks(const struct claim_line *l, struct claim *c)
{
    const char *p = take_equal(l, c);
    if (!p)
        return -1;
    c->ranges = xcalloc(CLAIM_RANGES, sizeof *c->ranges);
    for (bool more = true; more;) {
        if (c->range_count == CLAIM_RANGES)
            return bad(l, p, "more than %d ranges", CLAIM_RANGES);
        struct member_range *r = &c->ranges[c->range_count++];
        const char *from = p;
        bool all = c->group_index < 0;
        bool good = take_term(&p, all, &r->first, &r->step_first);
        r->last = r->first;
        r->step_last = r->step_first;
        if (good && *p == '-') {
            p++;
            good = take_term(&p, all, &r->last, &r->step_last);
        }
        more = *p == ',';
        if (!good || (*p && !more) || r->last < r->first || r->step_last < r->step_first)
            return bad(l, from, "'%s' is no list of ranks such as %s", from,
                       all ? "4i-4i+3 or i,i+64" : "0-3,8");
        p += more;
    }
    return 0;
}

/* ---- names ---- */

static int parse_group(const struct claim_line *l, struct claim *c)
{
    const struct words kinds = WORDS(group_name);
    char list[120];
    c->kind = CLAIM_GROUP;
    int kind = l->part_count == 3 ? word_index(&kinds, l->parts[1]) : -1;
    if (kind < 0)
        return bad(l, l->name, "write group/KIND/NUMBER or group/KIND/i; KIND is %s",
                   words_text(&kinds, list, sizeof list));
    c->group = (enum group_kind)kind;
    c->group_index = -1;
    if (strcmp(l->parts[2], "i") != 0 && !parse_int(l->parts[2], 0, 1 << 20, &c->group_index))
        return bad(l, part_at(l, 2), "'%s' is neither a group's number nor i", l->parts[2]);
    return take_ranks(l, c);
}

/* Words that a field may have, between bars. */
static bool words_of_field(const struct field *f, const char *list)
{
    char copy[CLAIM_WORD], *rest = copy, *word;
    snprintf(copy, sizeof copy, "%s", list);
    while ((word = strsep(&rest, "|")))
        if (!*word || (f->words && word_index(f->words, word) < 0))
            return false;
    return true;
}

static int parse_field(const struct claim_line *l, struct claim *c)
{
    static const struct record_fields *const records[] = {&axes_fields,     &batch_fields,   &routing_fields,
                                                          &training_fields, &machine_fields, &model_fields};
    c->kind = CLAIM_FIELD;
    for (size_t i = 0; l->part_count == 3 && i < sizeof records / sizeof *records; i++)
        if (strcmp(records[i]->kind, l->parts[1]) == 0)
            c->record = records[i];
    if (!c->record)
        return bad(l, l->name,
                   "write plan/RECORD/KEY; RECORD is axes, batch, routing, training, machine or model");
    c->field = field_find(c->record, l->parts[2]);
    if (!c->field)
        return bad(l, part_at(l, 2), "a plan's record '%s' has no '%s'", l->parts[1], l->parts[2]);
    bool word = c->field->type == FIELD_WORD || c->field->type == FIELD_FLAG || c->field->type == FIELD_TEXT;
    if (!word)
        return take_bound(l, c, UNIT_NUMBER);
    const char *p = take_equal(l, c);
    if (!p)
        return -1;
    if (strlen(p) >= CLAIM_WORD || strpbrk(p, " \t"))
        return bad(l, p, "'%.40s' is no word", p);
    if (!words_of_field(c->field, p)) {
        char list[200] = "a word";
        return bad(l, p, "'%s' is not %s", p,
                   c->field->words ? words_text(c->field->words, list, sizeof list) : list);
    }
    strcpy(c->word, p);
    return 0;
}

static int parse_number(const struct claim_line *l, struct claim *c)
{
    const char *name = l->parts[0];
    c->figure = figure_find(name, strlen(name), BOTH);
    for (const struct fact *f = facts; f->name && !c->figure; f++)
        if (strcmp(f->name, name) == 0)
            c->fact = f;
    if (!c->figure && !c->fact)
        return bad(l, l->name, "no figure or fact '%s' (see moe-claims(5))", name);
    c->kind = c->figure ? CLAIM_FIGURE : CLAIM_FACT;
    bool takes = c->fact && c->fact->arg;
    if (l->part_count > (takes ? 2 : 1))
        return bad(l, part_at(l, takes ? 2 : 1), "'%s' takes %s", name, takes ? "one argument" : "no argument");
    if (l->part_count == 2 && !parse_num(l->parts[1], 1e-6, 1e9, &c->arg))
        return bad(l, part_at(l, 1), "'%s' is not %s", l->parts[1], c->fact->arg);
    return take_bound(l, c, c->figure ? c->figure->unit : c->fact->unit);
}

/* NAME/ARG/… in place, and where the rest begins. */
static int split_name(struct claim_line *l)
{
    const char *p = l->name = l->text + strspn(l->text, " \t");
    size_t n = strcspn(p, " \t<>=~");
    l->rest = p + n + strspn(p + n, " \t");
    static const char name[] = "abcdefghijklmnopqrstuvwxyz0123456789_./-";
    if (n == 0 || n >= CLAIM_WORD * 2 || strspn(p, name) < n)
        return bad(l, p + strspn(p, name), "a claim is NAME OP VALUE, OP one of < <= > >= = ~");
    char *copy = l->parts[0] = xasprintf("%.*s", (int)n, p);
    l->part_count = 1;
    for (char *c = copy; *c; c++)
        if (*c == '/') {
            *c = '\0';
            if (l->part_count == 4)
                return bad(l, p, "a name has three parts at most");
            l->parts[l->part_count++] = c + 1;
        }
    return 0;
}

static int parse_claim(struct claim_line *l, struct claim *c)
{
    *c = (struct claim){.line = l->number, .arg = NAN};
    TRY(split_name(l));
    strcpy(c->text, l->name);
    if (strcmp(l->parts[0], "group") == 0)
        return parse_group(l, c);
    return strcmp(l->parts[0], "plan") == 0 ? parse_field(l, c) : parse_number(l, c);
}

/* ---- the file ---- */

/* One line's text into l: 1, 0 where it is empty. Blanks at its ends are dropped. */
static int take_line(struct claim_line *l, const char *from, const char *to)
{
    const char *hash = memchr(from, '#', (size_t)(to - from));
    to = hash ? hash : to;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t' || to[-1] == '\r'))
        to--;
    l->text[0] = '\0';
    if (to - from >= CLAIM_TEXT)
        return bad(l, l->text, "more than %d bytes of a claim", CLAIM_TEXT - 1);
    for (const char *p = from; p < to; p++)
        if ((unsigned char)*p < ' ' && *p != '\t')
            return error(STATUS_USAGE, "%s:%d:%d: a control character", l->where, l->number,
                         (int)(p - from) + 1);
    memcpy(l->text, from, (size_t)(to - from));
    l->text[to - from] = '\0';
    return to > from;
}

int claims_parse(struct claims *c, const char *text, size_t bytes, const char *where)
{
    const char *end = text + bytes;
    struct claim_line l = {.where = where};
    *c = (struct claims){0};
    for (const char *next; text < end; text = next) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        stop = stop ? stop : end;
        next = stop < end ? stop + 1 : end;
        l.number++;
        int r = take_line(&l, text, stop);
        if (r > 0 && c->count == CLAIMS_MOST)
            r = bad(&l, l.text, "more than %d claims", CLAIMS_MOST);
        if (r > 0) {
            c->list = xrealloc(c->list, (size_t)c->count + 1, sizeof *c->list);
            l.parts[0] = NULL;
            r = parse_claim(&l, &c->list[c->count++]);
            free(l.parts[0]);
        }
        if (r < 0) {
            claims_release(c);
            return -1;
        }
    }
    return c->count ? 0 : error(STATUS_USAGE, "%s: no claim in it", where);
}

int claims_read(struct claims *c, const char *what)
{
    size_t bytes;
    bool named = !strchr(what, '/') && !file_exists(what) && strcmp(what, "-") != 0;
    char *preset = named ? xasprintf("%s/claims/%s", data_dir(), what) : NULL;
    if (named && !file_exists(preset)) {
        free(preset);
        return preset_unknown("list of claims", "claims", what);
    }
    const char *path = named ? preset : what;
    char *text = file_read(path, MAX_BYTES, &bytes);
    int r = text ? claims_parse(c, text, bytes, path) : -1;
    free(text);
    free(preset);
    return r;
}

void claims_release(struct claims *c)
{
    for (int i = 0; i < c->count; i++)
        free(c->list[i].ranges);
    free(c->list);
    *c = (struct claims){0};
}

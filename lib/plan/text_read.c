/* SPDX-License-Identifier: MIT */
/* Reads a plan: syntax, completeness and the sum. Every size is bounded by the text itself or by a constant
 * before anything is allocated, so that a hostile file is an error like any other. What the numbers mean
 * together is plan_check()'s. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "model/config.h"
#include "plan/axes.h"
#include "plan/layout.h"
#include "plan/rules.h"
#include "plan/slots.h"
#include "plan/text_read.h"

/* Kept until the config is there to be compared with. */
static int read_model(struct reading *d)
{
    const struct field *f = model_fields.fields;
    d->model_line = d->r.line;
    for (int i = 0; f[i].key; i++)
        if (f[i].type == FIELD_TEXT || f[i].type == FIELD_WORD)
            TRY(record_text(&d->r, f[i].key, d->said[i].text, sizeof d->said[i].text));
        else
            TRY(record_int(&d->r, f[i].key, 0, INT64_MAX, &d->said[i].number));
    return 0;
}

/* The name is the record's own; all else must be the config's. */
static int compare_model(struct reading *d)
{
    struct model *m = &d->p->model;
    const struct field *f = model_fields.fields;
    for (int i = 0; f[i].key; i++) {
        char is[FIELD_VALUE], was[FIELD_VALUE];
        if (f[i].type == FIELD_TEXT) {
            snprintf((char *)m + f[i].at, f[i].bytes, "%s", d->said[i].text);
            continue;
        }
        snprintf(was, sizeof was, f[i].type == FIELD_WORD ? "%s" : "%.0s%lld", d->said[i].text,
                 (long long)d->said[i].number);
        if (strcmp(field_text(&f[i], m, is), was) != 0)
            return error(STATUS_USAGE, "%s:%d:1: 'model' says %s=%s, the config %s", d->r.where, d->model_line,
                         f[i].key, was, is);
    }
    return 0;
}

/* The block after a config record, without its margin. NULL with error(). */
static char *config_text(struct reading *d, int64_t bytes)
{
    char *text = xmalloc(bytes + 1);
    for (int64_t have = 0; have < bytes;) {
        char *line = record_raw_line(&d->r);
        size_t n = line ? strlen(line) : 0;
        bool margin = line && line[0] == '|' && (line[1] == ' ' || n == 1);
        if (!margin || have + (int64_t)(n < 2 ? 0 : n - 2) > bytes) {
            record_bad(&d->r,
                       margin ? "the config is longer than its %lld bytes"
                              : "the config ends before its %lld bytes",
                       (long long)bytes);
            free(text);
            return NULL;
        }
        n -= n < 2 ? n : 2;
        memcpy(text + have, line + 2, n);
        have += n;
        if (have < bytes)
            text[have++] = '\n';
    }
    text[bytes] = '\0';
    return text;
}

static int read_config(struct reading *d)
{
    struct model *m = &d->p->model;
    int64_t bytes;
    uint32_t crc;
    if (!d->seen[ONCE_MODEL])
        return record_bad(&d->r, "'config' before 'model'");
    TRY(record_int(&d->r, "bytes", 1, d->r.end - d->r.next, &bytes));
    TRY(record_hex32(&d->r, "crc32", &crc));
    TRY(record_end(&d->r));
    int line = d->r.line;
    char *text = config_text(d, bytes), *where;
    if (!text)
        return -1;
    uint32_t is = (uint32_t)crc32_z(0, (const unsigned char *)text, bytes);
    where = xasprintf("%s: config", d->r.where);
    int r = is == crc ? model_parse(m, text, bytes, where)
                      : error(STATUS_USAGE, "%s:%d:1: the config's crc32 is %08x, not %08x", d->r.where, line,
                              is, crc);
    free(where);
    free(text);
    TRY(r);
    TRY(compare_model(d));
    if (m->experts > INT16_MAX || m->layers * m->experts > MAX_EXPERT_SLOTS)
        return record_bad(&d->r, "%lld experts in %lld layers are too many", (long long)m->experts,
                          (long long)m->layers);
    TRY(inventory_init(&d->p->inventory, m));
    return 0;
}

/* What the sizes promise must not be more than the text can hold. */
static int take_axes(struct reading *d)
{
    struct plan *p = d->p;
    int64_t stages = p->axes.pp * p->axes.vpp;
    if (p->world > d->lines)
        return record_bad(&d->r, "%d ranks, but the plan has %lld lines", p->world, (long long)d->lines);
    if (stages > d->lines)
        return record_bad(&d->r, "%lld virtual stages, but the plan has %lld lines", (long long)stages,
                          (long long)d->lines);
    p->ranks = xcalloc(p->world, sizeof *p->ranks);
    d->has_rank = xcalloc(p->world, sizeof *d->has_rank);
    p->programs = xcalloc(p->axes.pp, sizeof *p->programs);
    p->stages = xcalloc(stages, sizeof *p->stages);
    return 0;
}

/* The sum covers all before its line. */
static int read_sum(struct reading *d)
{
    uint32_t says;
    TRY(record_hex32(&d->r, "crc32", &says));
    d->p->crc32 = (uint32_t)crc32_z(0, (const unsigned char *)d->text, d->r.line_start - d->copy);
    d->p->sealed = says == d->p->crc32;
    if (d->check_sum && !d->p->sealed)
        return record_bad(&d->r,
                          "the plan was changed after it was summed (crc32 is %08x); 'moe-plan-check --seal' "
                          "checks and reseals it",
                          d->p->crc32);
    return 0;
}

/* The records that come once: a fixed list of fields, or a reader, or both. Named as in enum once. */
static const struct {
    const char *kind;
    const struct record_fields *fields;
    int (*read)(struct reading *);
} once[ONCE] = {
    [ONCE_MODEL] = {"model", .read = read_model},    [ONCE_CONFIG] = {"config", .read = read_config},
    [ONCE_AXES] = {"axes", &axes_fields, take_axes}, [ONCE_BATCH] = {"batch", &batch_fields},
    [ONCE_ROUTING] = {"routing", &routing_fields},   [ONCE_TRAINING] = {"training", &training_fields},
    [ONCE_MACHINE] = {"machine", &machine_fields},   [ONCE_PREDICT] = {"predict", &predict_fields},
    [ONCE_SUM] = {"sum", .read = read_sum}};

static int read_once(struct reading *d, enum once i)
{
    if (d->seen[i])
        return record_bad(&d->r, "'%s' is repeated", once[i].kind);
    if (once[i].fields)
        TRY(fields_read(once[i].fields, &d->r, d->p, d->p));
    if (once[i].read)
        TRY(once[i].read(d));
    d->seen[i] = true;
    return i == ONCE_CONFIG ? 0 : record_end(&d->r); /* a config's lines are no words */
}

static int read_record(struct reading *d)
{
    if (d->seen[ONCE_SUM])
        return record_bad(&d->r, "'%.40s' after 'sum', which must be last", d->r.kind);
    if (strncmp(d->r.kind, "x-", 2) == 0)
        return 0; /* somebody's own: moe-plan(5) */
    for (int i = 0; i < ONCE; i++)
        if (strcmp(d->r.kind, once[i].kind) == 0)
            return read_once(d, i);
    int table = read_table_record(d);
    if (table)
        return table;
    return record_bad(&d->r, "unknown record '%.40s'", d->r.kind);
}

static int check_complete(const struct reading *d)
{
    const struct plan *p = d->p;
    const char *where = d->r.where;
    for (int i = 0; i < ONCE_SUM; i++)
        if (!d->seen[i])
            return error(STATUS_USAGE, "%s: the plan has no '%s'", where, once[i].kind);
    for (int r = 0; r < p->world; r++)
        if (!d->has_rank[r])
            return error(STATUS_USAGE, "%s: %lld of %d ranks; rank %d is missing", where, (long long)d->ranks,
                         p->world, r);
    if (p->stage_count != p->axes.pp * p->axes.vpp)
        return error(STATUS_USAGE, "%s: %d of %lld stages", where, p->stage_count,
                     (long long)(p->axes.pp * p->axes.vpp));
    for (int i = 0; i < p->axes.pp; i++)
        if (!p->programs[i].ops)
            return error(STATUS_USAGE, "%s: schedule %d is missing", where, i);
    if (p->axes.ep > max64(1, p->model.experts)) /* so a table of slots is bounded */
        return error(STATUS_USAGE, "%s: ep %lld, but the model has %lld experts", where, (long long)p->axes.ep,
                     (long long)p->model.experts);
    return 0;
}

/* The first line, and on the second who made it. */
static int read_head(struct reading *d)
{
    char *line = record_raw_line(&d->r);
    if (line && strcmp(line, "moe-plan 1\r") == 0)
        return error(STATUS_USAGE, "%s:1:11: a line ends in a carriage return, as no plan's does (tr -d '\\r')",
                     d->r.where);
    if (!line || strcmp(line, "moe-plan 1") != 0) {
        bool other = line && strncmp(line, "moe-plan ", 9) == 0;
        return error(STATUS_USAGE,
                     other ? "%s:1:10: version '%.20s' of the format is not 1: a newer moekit is needed"
                           : "%s:1:1: not a plan: it does not begin with 'moe-plan 1'%.0s",
                     d->r.where, other ? line + 9 : "");
    }
    if (d->r.end - d->r.next > 2 && strncmp(d->r.next, "# ", 2) == 0)
        d->p->made_by = strdup(record_raw_line(&d->r) + 2);
    return 0;
}

static int by_kind(const void *a, const void *b)
{
    const struct plan_group *x = a, *y = b;
    return x->kind != y->kind ? (int)x->kind - (int)y->kind : x->index - y->index;
}

/* In the order that layout_make() gives them, whatever order the lines have. */
static void sort_groups(struct plan *p)
{
    bool sorted = true;
    for (int i = 1; i < p->group_count; i++)
        sorted = sorted && by_kind(&p->groups[i - 1], &p->groups[i]) <= 0;
    if (!sorted)
        qsort(p->groups, (size_t)p->group_count, sizeof *p->groups, by_kind);
}

static int read_all(struct reading *d, size_t bytes, const char *where)
{
    TRY(records_open(&d->r, d->copy, bytes, where));
    TRY(read_head(d));
    int more;
    while ((more = record_next(&d->r)) > 0)
        TRY(read_record(d));
    TRY(more);
    TRY(check_complete(d));
    if (!d->seen[ONCE_SUM])
        d->p->crc32 = (uint32_t)crc32_z(0, (const unsigned char *)d->text, bytes);
    sort_groups(d->p);
    layout_index(d->p);
    slots_set(d->p, d->places, d->place_count);
    return 0;
}

int plan_parse(struct plan *p, const char *text, size_t bytes, const char *where, bool check_sum)
{
    struct reading d = {.p = p, .text = text, .check_sum = check_sum, .lines = 1};
    *p = (struct plan){0};
    for (size_t i = 0; i < bytes; i++)
        d.lines += text[i] == '\n';
    d.copy = xmalloc(bytes + 1);
    memcpy(d.copy, text, bytes);
    d.copy[bytes] = '\0';
    int r = read_all(&d, bytes, where);
    if (r < 0 && bytes && text[bytes - 1] != '\n')
        error(error_status(), "%s; the plan ends within a line, as if some of it were missing", error_text());
    if (r == 0 && check_sum && !d.seen[ONCE_SUM])
        notice("%s: the plan has no sum; 'moe-plan-check --seal' checks it and writes one", where);
    records_close(&d.r);
    free(d.copy);
    free(d.has_rank);
    free(d.places);
    if (r < 0)
        plan_release(p);
    return r;
}

int plan_read(struct plan *p, const char *path)
{
    size_t bytes;
    *p = (struct plan){0};
    char *text = file_read(path, MAX_PLAN_BYTES, &bytes);
    if (!text)
        return -1;
    int r = plan_parse(p, text, bytes, strcmp(path, "-") == 0 ? "stdin" : path, true);
    free(text);
    return r;
}

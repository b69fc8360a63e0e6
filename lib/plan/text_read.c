/* SPDX-License-Identifier: MIT */
/* Reads a plan: syntax, completeness and the sum. Every size is bounded by the text itself or by a constant
 * before anything is allocated, so that a hostile file is an error like any other. What the numbers mean
 * together is plan_check()'s. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/notice.h"
#include "base/num.h"
#include "model/config.h"
#include "plan/axes.h"
#include "plan/layout.h"
#include "plan/rules.h"
#include "plan/schedule.h"
#include "plan/text_read.h"

#define MAX_FIGURE 1e30

static const char *const part_name[PARTS] = {"model",    "config",  "axes",    "batch", "routing",
                                             "training", "machine", "predict", "sum"};

static int read_model(struct reading *d)
{
    d->model_line = d->r.line;
    TRY(record_text(&d->r, "name", d->name, sizeof d->name));
    TRY(record_text(&d->r, "family", d->family, sizeof d->family));
    for (int i = 0; i < MODEL_FIGURES; i++)
        TRY(record_int(&d->r, model_figure_name[i], 0, INT64_MAX, &d->figures[i]));
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
    int64_t bytes, mine[MODEL_FIGURES];
    uint32_t crc;
    if (!d->seen[PART_MODEL])
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
    snprintf(m->name, sizeof m->name, "%s", d->name);
    model_figures(m, mine);
    if (strcmp(d->family, family_type[m->family]) != 0)
        return error(STATUS_USAGE, "%s:%d:1: 'model' says family=%s, the config %s", d->r.where, d->model_line,
                     d->family, family_type[m->family]);
    for (int i = 0; i < MODEL_FIGURES; i++)
        if (mine[i] != d->figures[i])
            return error(STATUS_USAGE, "%s:%d:1: 'model' says %s=%lld, the config %lld", d->r.where,
                         d->model_line, model_figure_name[i], (long long)d->figures[i], (long long)mine[i]);
    if (m->experts > INT16_MAX || m->layers * m->experts > MAX_EXPERT_SLOTS)
        return record_bad(&d->r, "%lld experts in %lld layers are too many", (long long)m->experts,
                          (long long)m->layers);
    TRY(inventory_init(&d->p->inventory, m));
    d->p->expert_slot = xmalloc(m->layers * m->experts * sizeof *d->p->expert_slot);
    for (int64_t i = 0; i < m->layers * m->experts; i++)
        d->p->expert_slot[i] = -1;
    return 0;
}

static int read_axes(struct reading *d)
{
    struct plan *p = d->p;
    struct axes a = {0};
    struct {
        const char *key;
        int64_t *value;
    } axis[] = {{"tp", &a.tp}, {"cp", &a.cp},   {"dp", &a.dp}, {"etp", &a.etp},
                {"ep", &a.ep}, {"edp", &a.edp}, {"pp", &a.pp}, {"vpp", &a.vpp}};
    int64_t world;
    TRY(record_int(&d->r, "world", 1, MAX_WORLD, &world));
    for (size_t i = 0; i < sizeof axis / sizeof *axis; i++)
        TRY(record_int(&d->r, axis[i].key, 1, MAX_WORLD, axis[i].value));
    TRY(record_text(&d->r, "order", a.order, sizeof a.order));
    if (world > d->lines)
        return record_bad(&d->r, "%lld ranks, but the plan has %lld lines", (long long)world,
                          (long long)d->lines);
    if (a.pp * a.vpp > d->lines)
        return record_bad(&d->r, "%lld virtual stages, but the plan has %lld lines", (long long)(a.pp * a.vpp),
                          (long long)d->lines);
    p->world = (int)world;
    p->axes = a;
    p->ranks = xcalloc(world, sizeof *p->ranks);
    d->has_rank = xcalloc(world, sizeof *d->has_rank);
    p->programs = xcalloc(a.pp, sizeof *p->programs);
    p->stages = xcalloc(a.pp * a.vpp, sizeof *p->stages);
    return 0;
}

static int read_batch(struct reading *d)
{
    struct batch *b = &d->p->batch;
    TRY(record_int(&d->r, "seq", 1, 1 << 30, &b->seq));
    TRY(record_int(&d->r, "micro", 1, 1 << 20, &b->micro));
    TRY(record_int(&d->r, "global", 1, (int64_t)1 << 40, &b->global));
    return record_int(&d->r, "microbatches", 1, 1 << 24, &b->microbatches);
}

static int read_routing(struct reading *d)
{
    struct routing *t = &d->p->routing;
    static const char *const scopes[] = {"microbatch", "local"}, *const drops[] = {"prob", "position"};
    int scope, drop;
    TRY(record_num(&d->r, "lambda", 0, 1e6, &t->lambda));
    const struct record_word *none = record_take(&d->r, "capacity");
    if (!none || strcmp(none->value, "none") != 0)
        TRY(record_num(&d->r, "capacity", 0, 1e6, &t->capacity));
    if (isnan(t->lambda) || isnan(t->capacity))
        return record_bad(&d->r, "lambda and capacity cannot be null");
    TRY(record_choice(&d->r, "scope", scopes, 2, &scope));
    TRY(record_choice(&d->r, "drop", drops, 2, &drop));
    t->local_scope = scope;
    t->drop_position = drop;
    return 0;
}

static int read_training(struct reading *d)
{
    struct training *t = &d->p->training;
    static const char *const off_on[] = {"off", "on"}, *const types[] = {"f32", "bf16"};
    int precision, recompute, schedule, dispatcher, overlap, grad, moment;
    int64_t zero;
    TRY(record_choice(&d->r, "precision", precision_name, 3, &precision));
    TRY(record_choice(&d->r, "recompute", recompute_name, 3, &recompute));
    TRY(record_int(&d->r, "zero", 0, 3, &zero));
    TRY(record_choice(&d->r, "schedule", schedule_name, 4, &schedule));
    TRY(record_choice(&d->r, "dispatcher", dispatcher_name, 3, &dispatcher));
    TRY(record_choice(&d->r, "overlap", off_on, 2, &overlap));
    TRY(record_choice(&d->r, "grad", types, 2, &grad));
    TRY(record_choice(&d->r, "moment", types, 2, &moment));
    *t = (struct training){.precision = precision,
                           .recompute = recompute,
                           .zero = (int)zero,
                           .overlap = overlap,
                           .grad_bf16 = grad,
                           .moment_bf16 = moment};
    strcpy(t->schedule, schedule_name[schedule]);
    strcpy(t->dispatcher, dispatcher_name[dispatcher]);
    return 0;
}

static int read_machine(struct reading *d)
{
    struct machine *m = &d->p->machine;
    static const char *const devices[] = {"cpu", "cuda"};
    struct {
        const char *key;
        double *value;
    } figure[] = {{"memory_bytes", &m->memory_bytes},
                  {"flops_bf16", &m->flops_bf16},
                  {"flops_f32", &m->flops_f32},
                  {"intra_Bps", &m->intra_Bps},
                  {"inter_Bps", &m->inter_Bps},
                  {"intra_s", &m->intra_s},
                  {"inter_s", &m->inter_s}};
    int device;
    TRY(record_text(&d->r, "name", m->name, sizeof m->name));
    TRY(record_choice(&d->r, "device", devices, 2, &device));
    strcpy(m->device, devices[device]);
    TRY(record_int(&d->r, "nodes", 1, MAX_WORLD, &m->nodes));
    TRY(record_int(&d->r, "per_node", 1, MAX_WORLD, &m->per_node));
    for (size_t i = 0; i < sizeof figure / sizeof *figure; i++) {
        TRY(record_num(&d->r, figure[i].key, 0, MAX_FIGURE, figure[i].value));
        if (isnan(*figure[i].value))
            return record_bad(&d->r, "%s cannot be null; 0 is unknown", figure[i].key);
    }
    return 0;
}

static int read_predict(struct reading *d)
{
    struct predict *v = &d->p->predict;
    struct {
        const char *key;
        double *value;
    } figure[] = {{"memory_bytes", &v->memory_bytes},
                  {"state_bytes", &v->state_bytes},
                  {"activation_bytes", &v->activation_bytes},
                  {"workspace_bytes", &v->workspace_bytes},
                  {"step_s", &v->step_s},
                  {"tokens_per_s", &v->tokens_per_s},
                  {"flops_per_token", &v->flops_per_token},
                  {"mfu", &v->mfu},
                  {"bubble", &v->bubble}};
    int64_t rank;
    for (size_t i = 0; i < sizeof figure / sizeof *figure; i++)
        TRY(record_num(&d->r, figure[i].key, 0, MAX_FIGURE, figure[i].value));
    TRY(record_int(&d->r, "memory_rank", 0, MAX_WORLD, &rank));
    v->memory_rank = (int)rank;
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

static int (*const part_reader[PARTS])(struct reading *) = {read_model,   read_config,  read_axes,
                                                            read_batch,   read_routing, read_training,
                                                            read_machine, read_predict, read_sum};

static int read_record(struct reading *d)
{
    if (d->seen[PART_SUM])
        return record_bad(&d->r, "'%.40s' after 'sum', which must be last", d->r.kind);
    for (int i = 0; i < PARTS; i++)
        if (strcmp(d->r.kind, part_name[i]) == 0) {
            if (d->seen[i])
                return record_bad(&d->r, "'%s' is repeated", part_name[i]);
            TRY(part_reader[i](d));
            d->seen[i] = true;
            return i == PART_CONFIG ? 0 : record_end(&d->r);
        }
    int table = read_table_record(d);
    if (table)
        return table;
    return record_bad(&d->r, "unknown record '%.40s'", d->r.kind);
}

static int check_complete(const struct reading *d)
{
    const struct plan *p = d->p;
    const char *where = d->r.where;
    for (int i = 0; i < PART_SUM; i++)
        if (!d->seen[i])
            return error(STATUS_USAGE, "%s: the plan has no '%s'", where, part_name[i]);
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
    return 0;
}

/* The first line, and on the second who made it. */
static int read_head(struct reading *d)
{
    char *line = record_raw_line(&d->r);
    if (!line || strcmp(line, "moe-plan 1") != 0) {
        bool other = line && strncmp(line, "moe-plan ", 9) == 0;
        return error(STATUS_USAGE,
                     other ? "%s:1:10: version '%.20s' of the format is not 1"
                           : "%s:1:1: not a plan: it does not begin with 'moe-plan 1'%.0s",
                     d->r.where, other ? line + 9 : "");
    }
    if (d->r.end - d->r.next > 2 && strncmp(d->r.next, "# ", 2) == 0)
        d->p->made_by = strdup(record_raw_line(&d->r) + 2);
    return 0;
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
    if (!d->seen[PART_SUM])
        d->p->crc32 = (uint32_t)crc32_z(0, (const unsigned char *)d->text, bytes);
    layout_index(d->p);
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
    if (r == 0 && check_sum && !d.seen[PART_SUM])
        notice("%s: the plan has no sum; 'moe-plan-check --seal' checks it and writes one", where);
    records_close(&d.r);
    free(d.copy);
    free(d.has_rank);
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

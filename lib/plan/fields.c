/* SPDX-License-Identifier: MIT */
#include "plan/fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"
#include "model/size.h"
#include "plan/axes.h"
#include "plan/schedule.h"

#define MAX_FIGURE 1e30

const char *const precision_name[] = {"f32", "bf16", "fp8", NULL};
const char *const recompute_name[] = {"none", "selective", "full", NULL};
const char *const dispatcher_name[] = {"alltoall", "deepep", "hybridep", NULL};
const char *const device_name[] = {"cpu", "cuda", NULL};
static const char *const scope_name[] = {"microbatch", "local", NULL};
static const char *const drop_name[] = {"prob", "position", NULL};
static const char *const type_name[] = {"f32", "bf16", NULL};
static const char *const flag_name[] = {"off", "on", NULL};
const struct words precision_words = WORDS(precision_name), recompute_words = WORDS(recompute_name),
                   dispatcher_words = WORDS(dispatcher_name), device_words = WORDS(device_name),
                   scope_words = WORDS(scope_name), drop_words = WORDS(drop_name),
                   type_words = WORDS(type_name), flag_words = WORDS(flag_name);

/* Rows. MEMBER places the member in the record's struct. */
#define MEMBER(type, member) .at = offsetof(type, member), .bytes = sizeof(((type *)NULL)->member)
#define INT(name, member, low, high)                                                                           \
    {                                                                                                          \
        .key = name, .type = FIELD_INT, MEMBER(struct plan, member), .min = (low), .max = (double)(high)       \
    }
#define SIZE(name) INT(#name, axes.name, 1, MAX_WORLD)
#define NUM(name, field_type, member, high)                                                                    \
    {                                                                                                          \
        .key = name, .type = field_type, MEMBER(struct plan, member), .max = (high)                            \
    }
#define WORD(name, field_type, member, list)                                                                   \
    {                                                                                                          \
        .key = name, .type = field_type, MEMBER(struct plan, member), .words = &(list)                         \
    }
#define TEXT(name, record, member)                                                                             \
    {                                                                                                          \
        .key = name, .type = FIELD_TEXT, MEMBER(record, member)                                                \
    }
#define KNOWN(name) NUM(#name, FIELD_KNOWN, machine.name, MAX_FIGURE)
#define LATER(name)                                                                                            \
    {                                                                                                          \
        .key = #name, .type = FIELD_KNOWN, MEMBER(struct plan, machine.name), .max = MAX_FIGURE, .later = true \
    }
#define PREDICTED(name) NUM(#name, FIELD_PREDICTED, predict.name, MAX_FIGURE)
#define PREDICTED_LATER(name)                                                                                  \
    {                                                                                                          \
        .key = #name, .type = FIELD_PREDICTED, MEMBER(struct plan, predict.name), .max = MAX_FIGURE,           \
        .later = true                                                                                          \
    }
#define MODEL(name)                                                                                            \
    {                                                                                                          \
        .key = #name, .type = FIELD_INT, MEMBER(struct model, name)                                            \
    }
#define COORD(name)                                                                                            \
    {                                                                                                          \
        .key = #name, .type = FIELD_INT, MEMBER(struct coords, name),                                          \
        .below = offsetof(struct plan, axes.name)                                                              \
    }
#define RECORD(variable, word, ...)                                                                            \
    static const struct field variable##_rows[] = {__VA_ARGS__, {.key = NULL}};                                \
    _Static_assert(sizeof variable##_rows / sizeof *variable##_rows <= MAX_FIELDS + 1, "MAX_FIELDS");          \
    const struct record_fields variable = {word, variable##_rows}

/* clang-format off */
RECORD(axes_fields, "axes",
       INT("world", world, 1, MAX_WORLD), /* first */
       SIZE(tp), SIZE(cp), SIZE(dp), SIZE(etp), SIZE(ep), SIZE(edp), SIZE(pp), SIZE(vpp),
       TEXT("order", struct plan, axes.order));

RECORD(batch_fields, "batch",
       INT("seq", batch.seq, 1, 1 << 30),
       INT("micro", batch.micro, 1, 1 << 20),
       INT("global", batch.global, 1, (int64_t)1 << 40),
       INT("microbatches", batch.microbatches, 1, 1 << 24));

RECORD(routing_fields, "routing",
       NUM("lambda", FIELD_NUM, routing.lambda, 1e6),
       {.key = "capacity", .type = FIELD_KNOWN, MEMBER(struct plan, routing.capacity),
        .max = 1e6, .unknown = "none"},
       WORD("scope", FIELD_WORD, routing.local_scope, scope_words),
       WORD("drop", FIELD_WORD, routing.drop_position, drop_words));

RECORD(training_fields, "training",
       WORD("precision", FIELD_WORD, training.precision, precision_words),
       WORD("recompute", FIELD_WORD, training.recompute, recompute_words),
       INT("zero", training.zero, 0, 3),
       WORD("schedule", FIELD_WORD, training.schedule, schedule_words),
       WORD("dispatcher", FIELD_WORD, training.dispatcher, dispatcher_words),
       WORD("overlap", FIELD_FLAG, training.overlap, flag_words),
       WORD("grad", FIELD_WORD, training.grad_bf16, type_words),
       WORD("moment", FIELD_WORD, training.moment_bf16, type_words),
       {.key = "bucket_bytes", .type = FIELD_INT, MEMBER(struct plan, training.bucket_bytes),
        .max = (double)MAX_BUCKET_BYTES, .later = true, .spared = true});

RECORD(machine_fields, "machine",
       TEXT("name", struct plan, machine.name),
       WORD("device", FIELD_WORD, machine.device, device_words),
       INT("nodes", machine.nodes, 1, MAX_WORLD),
       INT("per_node", machine.per_node, 1, MAX_WORLD),
       KNOWN(memory_bytes), KNOWN(flops_bf16), KNOWN(flops_f32),
       KNOWN(intra_Bps), KNOWN(inter_Bps), KNOWN(intra_s), KNOWN(inter_s),
       LATER(flops_fp8), LATER(memory_Bps), LATER(host_s), LATER(node_mtbf_s),
       {.key = "efficiency", .type = FIELD_TEXT, MEMBER(struct plan, machine.efficiency), .later = true});

RECORD(predict_fields, "predict",
       PREDICTED(memory_bytes),
       INT("memory_rank", predict.memory_rank, 0, MAX_WORLD),
       PREDICTED(state_bytes), PREDICTED(activation_bytes), PREDICTED(workspace_bytes),
       PREDICTED(step_s), PREDICTED(tokens_per_s), PREDICTED(flops_per_token), PREDICTED(mfu),
       PREDICTED(bubble),
       {.key = "arena", .type = FIELD_INT, MEMBER(struct plan, predict.arena), .min = 1, .max = 1 << 20,
        .later = true},
       PREDICTED_LATER(hfu), PREDICTED_LATER(step_skewed_s), PREDICTED_LATER(communicator_bytes),
       {.key = "seconds", .type = FIELD_INT, MEMBER(struct plan, predict.seconds), .max = 1 << 20,
        .later = true});

RECORD(model_fields, "model",
       TEXT("name", struct model, name),
       {.key = "family", .type = FIELD_WORD, MEMBER(struct model, family), .words = &family_words},
       MODEL(layers), MODEL(moe_layers), MODEL(hidden), MODEL(heads), MODEL(kv_heads), MODEL(head_dim),
       MODEL(vocab), MODEL(experts), MODEL(top_k), MODEL(expert_ffn), MODEL(shared_ffn), MODEL(dense_ffn),
       {.key = "parameters", .type = FIELD_COUNTED, .count = model_parameters},
       {.key = "active_parameters", .type = FIELD_COUNTED, .count = model_active_parameters});

RECORD(rank_fields, "rank",
       {.key = "node", .type = FIELD_INT, MEMBER(struct coords, node), .max = MAX_WORLD},
       COORD(tp), COORD(cp), COORD(dp), COORD(etp), COORD(ep), COORD(edp), COORD(pp));
/* clang-format on */

/* ---- values ---- */

int64_t field_int(const struct field *f, const void *base)
{
    if (f->type == FIELD_COUNTED)
        return f->count(base);
    const void *member = (const char *)base + f->at;
    return f->bytes == 1   ? *(const bool *)member
           : f->bytes == 4 ? *(const int *)member
                           : *(const int64_t *)member;
}

static void set_int(const struct field *f, void *base, int64_t value)
{
    void *member = (char *)base + f->at;
    if (f->bytes == 1)
        *(bool *)member = value != 0;
    else if (f->bytes == 4)
        *(int *)member = (int)value;
    else
        *(int64_t *)member = value;
}

double field_num(const struct field *f, const void *base)
{
    return *(const double *)((const char *)base + f->at);
}

char *field_text(const struct field *f, const void *base, char buf[static FIELD_VALUE])
{
    switch (f->type) {
    case FIELD_TEXT:
        snprintf(buf, FIELD_VALUE, "%s", (const char *)base + f->at);
        break;
    case FIELD_WORD:
    case FIELD_FLAG:
        snprintf(buf, FIELD_VALUE, "%s", word_at(f->words, (int)field_int(f, base)));
        break;
    case FIELD_INT:
    case FIELD_COUNTED:
        snprintf(buf, FIELD_VALUE, "%lld", (long long)field_int(f, base));
        break;
    default:
        if (f->unknown && !(field_num(f, base) > 0))
            snprintf(buf, FIELD_VALUE, "%s", f->unknown);
        else
            figure_text(field_num(f, base), buf);
    }
    return buf;
}

bool field_set_word(const struct field *f, void *base, const char *word)
{
    int i = word_index(f->words, word);
    if (i >= 0)
        set_int(f, base, i);
    return i >= 0;
}

const struct field *field_find(const struct record_fields *r, const char *key)
{
    for (const struct field *f = r->fields; f->key; f++)
        if (strcmp(f->key, key) == 0)
            return f;
    return NULL;
}

/* ---- records ---- */

void fields_write(const struct record_fields *r, const void *base, FILE *out)
{
    char text[FIELD_VALUE];
    for (const struct field *f = r->fields; f->key; f++) {
        if (f->spared && field_int(f, base) == (int64_t)f->min)
            continue;
        fprintf(out, " %s=", f->key);
        field_text(f, base, text);
        record_write_text(out, *text ? text : "-");
    }
}

static int read_int(const struct field *f, struct records *in, void *base, const struct plan *p)
{
    int64_t value = (int64_t)f->min,
            max = f->below ? *(const int64_t *)((const char *)p + f->below) - 1 : (int64_t)f->max;
    if (!f->later || record_take(in, f->key))
        TRY(record_int(in, f->key, (int64_t)f->min, max, &value));
    set_int(f, base, value);
    return 0;
}

static int read_num(const struct field *f, struct records *in, void *base)
{
    double *value = (double *)((char *)base + f->at);
    *value = f->type == FIELD_PREDICTED ? NAN : 0;
    if (f->later && !record_take(in, f->key))
        return 0;
    struct record_word *w = f->unknown ? record_take(in, f->key) : NULL;
    if (w && strcmp(w->value, f->unknown) == 0)
        return 0;
    TRY(record_num(in, f->key, f->min, f->max, value));
    if (f->type != FIELD_PREDICTED && isnan(*value))
        return record_bad(in, "%s cannot be null%s", f->key,
                          f->type == FIELD_KNOWN && !f->unknown ? "; 0 is unknown" : "");
    return 0;
}

static int read_text(const struct field *f, struct records *in, char *text)
{
    if (f->later && !record_take(in, f->key))
        return 0;
    TRY(record_text(in, f->key, text, f->bytes));
    if (strcmp(text, "-") == 0)
        *text = '\0';
    return 0;
}

static int read_field(const struct field *f, struct records *in, void *base, const struct plan *p)
{
    int i;
    switch (f->type) {
    case FIELD_INT:
        return read_int(f, in, base, p);
    case FIELD_WORD:
    case FIELD_FLAG:
        TRY(record_choice(in, f->key, f->words, &i));
        set_int(f, base, i);
        return 0;
    case FIELD_TEXT:
        return read_text(f, in, (char *)base + f->at);
    case FIELD_COUNTED:
        return 0;
    default:
        return read_num(f, in, base);
    }
}

int fields_read(const struct record_fields *r, struct records *in, void *base, const struct plan *p)
{
    for (const struct field *f = r->fields; f->key; f++)
        TRY(read_field(f, in, base, p));
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* A config.json while it is read, and how its keys are asked for. Inside lib/model: others call model_parse().
 *
 * Functions that return int: 1 where the key was there, 0 where it is absent or null (the value is then the
 * family's default, or left alone), -1 with error() that names file, line and column. */
#ifndef MODEL_CONFIG_KEYS_H
#define MODEL_CONFIG_KEYS_H

#include "base/json.h"
#include "model/model.h"

/* Bounds of what is read, each far beyond any model; together they are bounded by MAX_PARAMETERS. */
enum {
    MAX_HIDDEN = 1 << 20,
    MAX_LAYERS = 4096,
    MAX_HEADS = 1 << 16,
    MAX_WIDTH = 1 << 24, /* heads·head_dim, and any width of an MLP */
    MAX_EXPERTS = 1 << 16,
    MAX_VOCAB = 1 << 27,
    MAX_POSITIONS = 1 << 30,
};
#define MAX_PARAMETERS ((int64_t)1 << 56) /* so that bytes and moments still count in 64 bits */

struct config {
    struct json_doc doc;
    const json_t *root;
    struct model *m;             /* filled topic by topic, in the order of config.c */
    const struct family *family; /* known before all else */
};

/* Keys that all families have. */
static inline int config_int(struct config *c, const char *key, int64_t min, int64_t max, int64_t *value)
{
    return json_int(&c->doc, c->root, key, min, max, value);
}
static inline int config_num(struct config *c, const char *key, double min, double max, double *value)
{
    return json_num(&c->doc, c->root, key, min, max, value);
}
static inline int config_flag(struct config *c, const char *key, bool *value)
{
    return json_flag(&c->doc, c->root, key, value);
}

/* A key of the family's row, with the row's value when it is absent or null (or the family has no such key). */
int config_int_of(struct config *c, const struct int_key *k, int64_t min, int64_t max, int64_t *value);
int config_num_of(struct config *c, const struct num_key *k, double min, double max, double *value);
int config_flag_of(struct config *c, const struct flag_key *k, bool *value);

/* A size, from 1 to max, which a config nearly always has: without it transformers takes its own default, and
 * so do we, noting it in `assumed`. 0, or -1 with error(). */
int config_size(struct config *c, const char *key, int64_t absent, int64_t max, int64_t *value);

/* Notes in `assumed` that this key is taken for that. */
void config_assume(struct config *c, const char *key, int64_t value);

/* The member, or NULL where it is absent or null, or key is NULL. */
const json_t *config_member(const struct config *c, const char *key);

/* Adds a reason why the model can be planned for but not trained; those that no longer fit are left out. */
void config_plan_only(struct config *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

/* SPDX-License-Identifier: MIT */
#include "model/config_keys.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int config_int_of(struct config *c, const struct int_key *k, int64_t min, int64_t max, int64_t *value)
{
    *value = k->absent;
    return k->key ? config_int(c, k->key, min, max, value) : 0;
}

int config_num_of(struct config *c, const struct num_key *k, double min, double max, double *value)
{
    *value = k->absent;
    return k->key ? config_num(c, k->key, min, max, value) : 0;
}

int config_flag_of(struct config *c, const struct flag_key *k, bool *value)
{
    *value = k->absent;
    return k->key ? config_flag(c, k->key, value) : 0;
}

/* Adds to a list of phrases; one that no longer fits is left out. */
static void add_phrase(char *list, size_t room, const char *phrase)
{
    size_t have = strlen(list);
    if (have + strlen(phrase) + 3 <= room)
        snprintf(list + have, room - have, "%s%s", have ? "; " : "", phrase);
}

void config_assume(struct config *c, const char *key, int64_t value)
{
    char phrase[80];
    snprintf(phrase, sizeof phrase, "%s %lld", key, (long long)value);
    add_phrase(c->m->assumed, sizeof c->m->assumed, phrase);
}

int config_size(struct config *c, const char *key, int64_t absent, int64_t max, int64_t *value)
{
    if (json_object_get(c->root, key))
        return json_need_int(&c->doc, c->root, key, 1, max, value) < 0 ? -1 : 0;
    *value = absent;
    config_assume(c, key, absent);
    return 0;
}

const json_t *config_member(const struct config *c, const char *key)
{
    const json_t *member = key ? json_object_get(c->root, key) : NULL;
    return json_is_null(member) ? NULL : member;
}

void config_plan_only(struct config *c, const char *fmt, ...)
{
    char reason[120];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(reason, sizeof reason, fmt, ap);
    va_end(ap);
    add_phrase(c->m->plan_only, sizeof c->m->plan_only, reason);
}

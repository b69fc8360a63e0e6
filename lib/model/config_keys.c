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
    char *text = c->m->plan_only;
    size_t have = strlen(text);
    if (have + strlen(reason) + 3 <= sizeof c->m->plan_only)
        snprintf(text + have, sizeof c->m->plan_only - have, "%s%s", have ? "; " : "", reason);
}

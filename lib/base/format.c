/* SPDX-License-Identifier: MIT */
#include "base/format.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const struct format manifest_format = {.key = "moekit", .version = 1};
const struct format state_format = {.key = "moekit", .version = 1};
const struct format log_format = {.key = "format", .version = 1};
const struct format timeline_format = {.key = "format", .version = 1};

static bool knows(const struct format *f, const char *feature)
{
    for (int i = 0; i < FORMAT_FEATURES && f->features[i]; i++)
        if (strcmp(f->features[i], feature) == 0)
            return true;
    return false;
}

/* NULL for what is not the name of a feature; it is shown on terminals, so no other bytes. */
static const char *feature_name(const json_t *v)
{
    const char *name = json_string_value(v);
    return name && *name && !name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-")] ? name : NULL;
}

static bool __attribute__((format(printf, 2, 3))) refuse(char why[static FORMAT_WHY], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, FORMAT_WHY, fmt, ap);
    va_end(ap);
    return true;
}

bool format_refuses(const struct format *f, const json_t *o, const char **key, char why[static FORMAT_WHY])
{
    const json_t *version = json_object_get(o, f->key), *needs = json_object_get(o, "needs"), *v;
    int64_t n = version ? json_integer_value(version) : 1; /* 0 for what is not an integer */
    size_t i;
    *key = f->key;
    if (n < 1)
        return refuse(why, "is not a version, 1 or higher");
    if (n > f->version)
        return refuse(why, "is %lld, and moekit " VERSION " reads up to %d: a newer moekit is needed",
                      (long long)n, f->version);
    *key = "needs";
    if (needs && !json_is_array(needs))
        return refuse(why, "is not a list of features");
    json_array_foreach(needs, i, v)
    {
        const char *name = feature_name(v);
        if (!name)
            return refuse(why, "holds what is not the name of a feature");
        if (!knows(f, name))
            return refuse(
                why, "names '%.40s', which moekit " VERSION " does not know: a newer moekit is needed", name);
    }
    return false;
}

int format_check(const struct format *f, const struct json_doc *d)
{
    const char *key;
    char why[FORMAT_WHY];
    return format_refuses(f, d->root, &key, why) ? json_bad(d, key, "%s", why) : 0;
}

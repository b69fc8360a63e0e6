/* SPDX-License-Identifier: MIT */
#include "model/edit.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/json.h"
#include "model/model.h"

/* The object that has the model's keys: of one that is part of another, its text part. */
static json_t *keys_of(json_t *root)
{
    json_t *text = json_object_get(root, "text_config");
    return json_is_object(text) ? text : root;
}

static char *text_of(const json_t *root)
{
    return json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
}

char *config_with_experts(const struct model *m, int64_t experts)
{
    struct json_doc d;
    if (json_open(&d, m->source, m->source_bytes, CONFIG_FILE) < 0)
        return NULL;
    const char *const *keys = model_family(m)->experts;
    json_t *object = keys_of(d.root);
    bool said = false;
    for (int i = 0; keys[i]; i++)
        if (json_is_integer(json_object_get(object, keys[i]))) {
            json_object_set_new(object, keys[i], json_integer(experts));
            said = true;
        }
    if (!said)
        json_object_set_new(object, keys[0], json_integer(experts));
    char *text = text_of(d.root);
    json_close(&d);
    return text;
}

char *config_with_dtype(const struct model *m, const char *dtype)
{
    static const char *const keys[] = {"dtype", "torch_dtype"};
    struct json_doc d;
    if (json_open(&d, m->source, m->source_bytes, CONFIG_FILE) < 0)
        return NULL;
    json_t *places[] = {d.root, keys_of(d.root)};
    bool said = false;
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++)
            if (json_is_string(json_object_get(places[i], keys[k]))) {
                json_object_set_new(places[i], keys[k], json_string(dtype));
                said = true;
            }
    if (!said)
        json_object_set_new(d.root, "torch_dtype", json_string(dtype));
    char *text = text_of(d.root);
    json_close(&d);
    return text;
}

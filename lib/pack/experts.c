/* SPDX-License-Identifier: MIT */
#include "pack/experts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/ranges.h"
#include "base/words.h"
#include "model/inventory.h"
#include "model/load.h"
#include "plan/states.h"

/* ---- what was asked for ---- */

struct expert_item {
    int64_t layers[2], experts[2]; /* first, last */
};

struct expert_choice {
    struct expert_item *items;
    int count;
};

/* N or FIRST-LAST in text[0…n). */
static bool read_range(const char *text, size_t n, int64_t range[2])
{
    char copy[48];
    if (n >= sizeof copy)
        return false;
    snprintf(copy, sizeof copy, "%.*s", (int)n, text);
    char *dash = strchr(copy, '-');
    if (dash)
        *dash++ = '\0';
    return parse_int(copy, 0, INT_MAX, &range[0]) &&
           parse_int(dash ? dash : copy, range[0], INT_MAX, &range[1]);
}

struct expert_choice *experts_parse(const char *option, const char *text)
{
    struct expert_choice *c = xcalloc(1, sizeof *c);
    for (const char *at = text;; at++) {
        size_t n = strcspn(at, ","), colon = strcspn(at, ",:");
        struct expert_item item = {.layers = {0, INT_MAX}};
        bool layered = colon < n;
        if ((layered && !read_range(at, colon, item.layers)) ||
            !read_range(layered ? at + colon + 1 : at, layered ? n - colon - 1 : n, item.experts)) {
            error(STATUS_USAGE, "%s: '%.*s' is not EXPERT, FIRST-LAST or LAYER:EXPERT", option,
                  (int)min64((int64_t)n, 60), at);
            experts_free(c);
            return NULL;
        }
        c->items = xrealloc(c->items, (size_t)c->count + 1, sizeof *c->items);
        c->items[c->count++] = item;
        at += n;
        if (!*at)
            return c;
    }
}

void experts_free(struct expert_choice *c)
{
    if (c)
        free(c->items);
    free(c);
}

bool experts_has(const struct expert_choice *c, int64_t layer, int64_t expert)
{
    for (int i = 0; i < c->count; i++) {
        const struct expert_item *x = &c->items[i];
        if (x->layers[0] <= layer && layer <= x->layers[1] && x->experts[0] <= expert &&
            expert <= x->experts[1])
            return true;
    }
    return false;
}

bool experts_within(const struct expert_choice *c, int64_t layers, int64_t experts)
{
    for (int i = 0; i < c->count; i++) {
        const struct expert_item *x = &c->items[i];
        if (x->experts[1] >= experts || (x->layers[1] != INT_MAX && x->layers[1] >= layers))
            return false;
    }
    return true;
}

static bool list_meets(const char *list, const int64_t range[2])
{
    int64_t item[2];
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        if (read_range(at, n, item) && item[0] <= range[1] && item[1] >= range[0])
            return true;
        at += n;
        if (!*at)
            return false;
    }
}

bool experts_overlap(const struct expert_choice *c, const char *experts, const char *layers)
{
    for (int i = 0; i < c->count; i++)
        if (list_meets(experts, c->items[i].experts) && list_meets(layers, c->items[i].layers))
            return true;
    return false;
}

/* ---- what files hold ---- */

struct expert_name {
    char *name;
    int layer, expert;
};

struct expert_names {
    struct expert_name *list; /* sorted */
    int count;
    int64_t layers, experts;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct expert_name *)a)->name, ((const struct expert_name *)b)->name);
}

struct expert_names *expert_names_load(const char *dir)
{
    struct model m;
    struct inventory v;
    char name[128];
    if (model_load(&m, dir) < 0)
        return NULL;
    if (inventory_init(&v, &m) < 0) {
        model_release(&m);
        return NULL;
    }
    struct expert_names *n = xcalloc(1, sizeof *n);
    *n = (struct expert_names){xcalloc(v.count, sizeof *n->list), v.count, m.layers, m.experts};
    for (int i = 0; i < v.count; i++)
        n->list[i] = (struct expert_name){xstrdup(tensor_name(&m, &v.tensors[i], name)), v.tensors[i].layer,
                                          v.tensors[i].expert};
    qsort(n->list, n->count, sizeof *n->list, by_name);
    inventory_release(&v);
    model_release(&m);
    return n;
}

void expert_names_free(struct expert_names *n)
{
    for (int i = 0; n && i < n->count; i++)
        free(n->list[i].name);
    if (n)
        free(n->list);
    free(n);
}

/* Also of a state of the optimizer: NAME and a suffix. */
static const struct expert_name *find_name(const struct expert_names *n, const char *name)
{
    struct expert_name key = {xstrdup(name)};
    const struct expert_name *found = bsearch(&key, n->list, n->count, sizeof *n->list, by_name);
    for (int s = 0; s < STATES && !found; s++) {
        if (!ends_in(name, states[s].suffix))
            continue;
        char *suffix = key.name + strlen(name) - strlen(states[s].suffix);
        *suffix = '\0';
        found = bsearch(&key, n->list, n->count, sizeof *n->list, by_name);
        *suffix = *states[s].suffix;
    }
    free(key.name);
    return found;
}

/* The numbers whose flag is set. */
static char *flagged(const bool *flags, int64_t count)
{
    int *list = xcalloc(count, sizeof *list), n = 0;
    for (int64_t i = 0; i < count; i++)
        if (flags[i])
            list[n++] = (int)i;
    char *text = ranges_text(list, n);
    free(list);
    return text;
}

void expert_names_of_file(const struct expert_names *n, const struct st_file *f, char **experts, char **layers)
{
    bool *has_expert = xcalloc(n->experts, sizeof *has_expert),
         *has_layer = xcalloc(n->layers, sizeof *has_layer);
    bool all = f->count > 0;
    for (int i = 0; i < f->count && all; i++) {
        const struct expert_name *x = find_name(n, f->tensors[i].name);
        all = x && x->expert >= 0;
        if (all)
            has_expert[x->expert] = has_layer[x->layer] = true;
    }
    *experts = all ? flagged(has_expert, n->experts) : NULL;
    *layers = all ? flagged(has_layer, n->layers) : NULL;
    free(has_expert);
    free(has_layer);
}

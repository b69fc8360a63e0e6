/* SPDX-License-Identifier: MIT */
#include "cost/cluster.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/presets.h"
#include "plan/fields.h"

#define MAX_CLUSTER_BYTES (1 << 20)

static int read_name(struct machine *m, const struct json_doc *d)
{
    const char *name = NULL, *device = "cuda";
    if (json_text(d, d->root, "name", &name) < 0 || json_text(d, d->root, "device", &device) < 0)
        return -1;
    if (name && strlen(name) >= sizeof m->name)
        return json_bad(d, "name", "is longer than %zu bytes", sizeof m->name - 1);
    int kind = word_index(&device_words, device);
    if (kind < 0)
        return json_bad(d, "device", "must be \"cpu\" or \"cuda\"");
    if (name)
        snprintf(m->name, sizeof m->name, "%s", name);
    m->device = kind;
    return 0;
}

/* A type that nothing knows is a mistake, and its figure would be missed in silence. */
static int check_types(const struct json_doc *d, json_t *flops)
{
    static const char known[] = " bf16 f32 tf32 f16 f64 fp8 fp6 fp4 int8 ";
    const char *type;
    json_t *value;
    json_object_foreach(flops, type, value)
    {
        char word[16];
        snprintf(word, sizeof word, " %.12s ", type);
        if (strlen(type) > 12 || !strstr(known, word))
            return json_bad(d, type, "is no type of numbers: there are%s", known);
    }
    return 0;
}

static int read_figures(struct machine *m, const struct json_doc *d)
{
    const json_t *root = d->root;
    json_t *flops = json_object_get(root, "flops");
    if (flops && !json_is_object(flops))
        return json_bad(d, "flops", "must be an object with \"bf16\" and \"f32\"");
    TRY(check_types(d, flops));
    if (json_int(d, root, "nodes", 1, 1 << 20, &m->nodes) < 0 ||
        json_int(d, root, "ranks_per_node", 1, 1 << 20, &m->per_node) < 0 ||
        json_num(d, root, "memory_bytes", 1, 1e18, &m->memory_bytes) < 0 ||
        (flops && json_num(d, flops, "bf16", 1, 1e21, &m->flops_bf16) < 0) ||
        (flops && json_num(d, flops, "f32", 1, 1e21, &m->flops_f32) < 0))
        return -1;
    if (json_num(d, root, "intra_Bps", 1, 1e18, &m->intra_Bps) < 0 ||
        json_num(d, root, "inter_Bps", 1, 1e18, &m->inter_Bps) < 0 ||
        json_num(d, root, "intra_s", 0, 10, &m->intra_s) < 0 ||
        json_num(d, root, "inter_s", 0, 10, &m->inter_s) < 0)
        return -1;
    return 0;
}

static char *find_file(const char *what)
{
    if (strcmp(what, "-") == 0 || strchr(what, '/') || file_exists(what))
        return xstrdup(what);
    char *path = xasprintf("%s/clusters/%s.json", data_dir(), what);
    if (file_exists(path))
        return path;
    free(path);
    error(STATUS_USAGE, "no cluster '%s': neither a file nor a preset (%s/clusters)", what, data_dir());
    return NULL;
}

int cluster_load(struct machine *m, const char *what, int64_t world)
{
    *m = (struct machine){.nodes = 1};
    char *path = find_file(what ? what : "local");
    if (!path)
        return -1;
    snprintf(m->name, sizeof m->name, "%s", what ? what : "local");
    struct json_doc d;
    int r = json_open_file(&d, path, MAX_CLUSTER_BYTES);
    free(path);
    if (r < 0)
        return -1;
    r = read_name(m, &d) < 0 ? -1 : read_figures(m, &d);
    json_close(&d);
    if (r < 0)
        return -1;
    if (m->per_node == 0)
        m->per_node = ceil_div(world, m->nodes);
    if (m->memory_bytes == 0 && m->device == DEVICE_CPU)
        m->memory_bytes =
            (double)((int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGE_SIZE) / min64(m->per_node, world));
    if (world > m->nodes * m->per_node)
        return error(STATUS_USAGE,
                     "rule nodes-suffice: cluster '%s' has %lld nodes of %lld = %lld ranks; %lld are asked for",
                     m->name, (long long)m->nodes, (long long)m->per_node, (long long)(m->nodes * m->per_node),
                     (long long)world);
    return 0;
}

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
#include "base/words.h"
#include "cost/curve.h"
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
            return json_bad(d, type, "is no type of numbers: there are%.*s", (int)sizeof known - 2, known);
    }
    return 0;
}

static int read_efficiency(struct machine *m, const struct json_doc *d)
{
    static const char key[] = "efficiency";
    json_t *list = json_object_get(d->root, key), *point;
    struct curve c = {0};
    size_t i;
    if (!list || json_is_null(list))
        return 0;
    if (!json_is_array(list))
        return json_bad(d, key, "must be an array of [flops, share]");
    json_array_foreach(list, i, point)
    {
        const json_t *flops = json_array_get(point, 0), *share = json_array_get(point, 1);
        if (json_array_size(point) != 2 || !json_is_number(flops) || !json_is_number(share) ||
            !curve_add(&c, json_number_value(flops), json_number_value(share)))
            return json_bad(
                d, key,
                "has as its point %zu no [flops, share] with more flops than the one before and a share "
                "above 0, at most 1 (or it is one more than %d)",
                i + 1, CURVE_POINTS);
    }
    if (!curve_text(&c, m->efficiency))
        return json_bad(d, key, "is too long");
    return 0;
}

/* A member that nothing knows is a mistake too; those that begin with '_' are remarks. */
static int check_members(const struct json_doc *d)
{
    static const char *const known[] = {"name",       "device",  "nodes",      "ranks_per_node", "memory_bytes",
                                        "memory_Bps", "flops",   "efficiency", "intra_Bps",      "inter_Bps",
                                        "intra_s",    "inter_s", "host_s",     "node_mtbf_s",    NULL};
    const struct words words = WORDS(known);
    const char *key;
    char list[300];
    json_t *value;
    json_object_foreach(d->root, key, value)
    {
        if (*key != '_' && word_index(&words, key) < 0)
            return json_bad(d, key, "is not one of a cluster's: %s", words_text(&words, list, sizeof list));
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
    TRY(json_int(d, root, "nodes", 1, 1 << 20, &m->nodes));
    TRY(json_int(d, root, "ranks_per_node", 1, 1 << 20, &m->per_node));
    const struct {
        const char *key;
        const json_t *in;
        double min, max; /* bounds beyond which a figure is a mistake: a unit too small or too large */
        double *to;
    } figures[] = {
        {"memory_bytes", root, 1e6, 1e15, &m->memory_bytes},
        {"memory_Bps", root, 1e6, 1e15, &m->memory_Bps},
        {"bf16", flops, 1e6, 1e18, &m->flops_bf16},
        {"f32", flops, 1e6, 1e18, &m->flops_f32},
        {"fp8", flops, 1e6, 1e18, &m->flops_fp8},
        {"intra_Bps", root, 1e3, 1e14, &m->intra_Bps},
        {"inter_Bps", root, 1e3, 1e14, &m->inter_Bps},
        {"intra_s", root, 1e-9, 1, &m->intra_s},
        {"inter_s", root, 1e-9, 1, &m->inter_s},
        {"host_s", root, 1e-9, 1, &m->host_s},
        {"node_mtbf_s", root, 1, 1e12, &m->node_mtbf_s},
    };
    for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
        if (figures[i].in)
            TRY(json_num(d, figures[i].in, figures[i].key, figures[i].min, figures[i].max, figures[i].to));
    return read_efficiency(m, d);
}

static char *preset_file(const char *name)
{
    char *path = xasprintf("%s/clusters/%s.json", data_dir(), name);
    if (!strchr(name, '/') && file_exists(path))
        return path;
    free(path);
    return NULL;
}

static char *find_file(const char *what)
{
    if (strcmp(what, "-") == 0 || strchr(what, '/') || file_exists(what))
        return xstrdup(what);
    char *path = preset_file(what);
    if (path)
        return path;
    preset_unknown("cluster", "clusters", what);
    return NULL;
}

/* On processors a node's ranks share what it has: so many times as much is each one's when only `here` of the
 * ranks that the figures are for are there. A product is then cut into so many parts more, each with the share
 * of its own work. */
static int share_node(struct machine *m, int64_t here)
{
    double more = (double)m->per_node / (double)here;
    struct curve c, wider = {0};
    TRY(curve_parse(&c, m->efficiency));
    bool fits = true;
    for (int i = 0; i < c.count; i++)
        fits = fits && curve_add(&wider, more * c.at[i].flops, c.at[i].share);
    if (!fits || !curve_text(&wider, m->efficiency))
        return error(STATUS_USAGE, "cluster '%s': efficiency has too many digits", m->name);
    m->flops_f32 *= more;
    m->flops_bf16 *= more;
    m->flops_fp8 *= more;
    m->memory_Bps *= more;
    m->memory_bytes *= more;
    return 0;
}

static int load(struct machine *m, char *path, const char *name, int64_t world)
{
    *m = (struct machine){.nodes = 1};
    snprintf(m->name, sizeof m->name, "%s", name);
    struct json_doc d;
    int r = json_open_file(&d, path, MAX_CLUSTER_BYTES);
    free(path);
    if (r < 0)
        return -1;
    r = check_members(&d) < 0 || read_name(m, &d) < 0 ? -1 : read_figures(m, &d);
    json_close(&d);
    if (r < 0)
        return -1;
    if (m->per_node == 0)
        m->per_node = ceil_div(world, m->nodes);
    if (m->device == DEVICE_CPU && world < m->per_node)
        TRY(share_node(m, world));
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

int cluster_load(struct machine *m, const char *what, int64_t world)
{
    char *path = find_file(what ? what : "local");
    return path ? load(m, path, what ? what : "local", world) : -1;
}

int cluster_preset(struct machine *m, const char *name, int64_t world)
{
    char *path = preset_file(name);
    return path ? load(m, path, name, world)
                : error(STATUS_USAGE, "no preset of a cluster has the name '%s'", name);
}

double machine_peak(const struct machine *m, enum precision precision)
{
    return precision == PRECISION_F32    ? m->flops_f32
           : precision == PRECISION_BF16 ? m->flops_bf16
                                         : m->flops_fp8;
}

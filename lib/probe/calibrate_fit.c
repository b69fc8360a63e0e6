/* SPDX-License-Identifier: MIT */
#include "probe/calibrate_fit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/num.h"
#include "cost/curve.h"
#include "cost/layer.h"

int calibrate_by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void calibrate_add_product(struct calibration *c, const struct multiply *p, double s)
{
    c->product = xrealloc(c->product, (size_t)c->products + 1, sizeof *c->product);
    double flops = product_flops(p), experts = p->experts ? (double)p->experts : 1;
    c->product[c->products++] = (struct product_rate){
        .work = flops / experts,
        .s = s / experts,
        .weight_bytes = weight_bytes((double)type_bytes(p->type), (double)p->n, (double)p->k),
        .type = p->type};
}

void calibrate_add_wire(struct calibration *c, enum wire wire, struct reach reach, size_t bytes, double s)
{
    c->wire = xrealloc(c->wire, (size_t)c->wires + 1, sizeof *c->wire);
    c->wire[c->wires++] = (struct wire_sample){wire, reach, (double)bytes, s};
}

void calibration_release(struct calibration *c)
{
    free(c->product);
    free(c->wire);
}

int calibrate_judge(const struct calibration *c, double share)
{
    int all = c->planned > c->measured ? c->planned : c->measured;
    if (c->disturbed <= share * all)
        return 0;
    return error(STATUS_ENV,
                 "%d of %d measurements vary too much to tell what this machine does: end what else runs on it",
                 c->disturbed, all);
}

/* ---- products ---- */

enum { POINTS = 6 }; /* of the curve, with so few digits that there is room for them in a plan's line */

static double digits(double x)
{
    char text[32];
    snprintf(text, sizeof text, "%.3g", x);
    return atof(text);
}

/* Products of one size, in whatever uses and types. */
struct size_class {
    double log_work, share; /* of the peak */
    int count;
};

/* What loading the weight takes of a product, by cost/layer.h. */
static double loading_s(const struct calibration *c, const struct product_rate *p)
{
    return c->p->bench.be->device ? 0 : p->weight_bytes / c->memory_Bps;
}

/* Of all products of this type and size: operations over seconds of computing, for a layer has as many of each
 * use. */
static double rate_of(const struct calibration *c, enum type type, double work)
{
    double s = 0, all = 0, n = 0;
    for (int i = 0; i < c->products; i++)
        if (c->product[i].type == type && c->product[i].work == work) {
            s += c->product[i].s - loading_s(c, &c->product[i]);
            all += c->product[i].s;
            n++;
        }
    return n * work / fmax(s, all / 4); /* what is loaded may come sooner than counted */
}

static double peak_of(const struct calibration *c, enum type type)
{
    double most = 0;
    for (int i = 0; i < c->products; i++)
        if (c->product[i].type == type)
            most = fmax(most, rate_of(c, type, c->product[i].work));
    return most;
}

static int by_work(const void *a, const void *b)
{
    double x = ((const struct size_class *)a)->log_work, y = ((const struct size_class *)b)->log_work;
    return (x > y) - (x < y);
}

/* The two neighbours that are nearest become one. */
static void join_nearest(struct size_class *list, int count)
{
    int at = 1;
    for (int i = 2; i < count; i++)
        if (list[i].log_work - list[i - 1].log_work < list[at].log_work - list[at - 1].log_work)
            at = i;
    struct size_class *a = &list[at - 1], *b = &list[at];
    double n = a->count + b->count;
    a->log_work = (a->log_work * a->count + b->log_work * b->count) / n;
    a->share = (a->share * a->count + b->share * b->count) / n;
    a->count += b->count;
    memmove(b, b + 1, (size_t)(count - at - 1) * sizeof *b);
}

static void fit_curve(const struct calibration *c, struct curve *out)
{
    const double peak[] = {[F32] = peak_of(c, F32), [BF16] = peak_of(c, BF16)};
    struct size_class *list = xcalloc((size_t)c->products, sizeof *list);
    int n = 0;
    for (int i = 0; i < c->products; i++)
        list[n++] = (struct size_class){
            log(c->product[i].work),
            rate_of(c, c->product[i].type, c->product[i].work) / peak[c->product[i].type], 1};
    qsort(list, (size_t)n, sizeof *list, by_work);
    while (n > POINTS)
        join_nearest(list, n--);
    *out = (struct curve){0};
    for (int i = 0; i < n; i++)
        curve_add(out, digits(exp(list[i].log_work)), digits(list[i].share));
    free(list);
}

/* How far products are from peak and curve, as line_residual() has it. */
static double curve_residual(const struct calibration *c, const struct curve *curve)
{
    double sum = 0;
    for (int i = 0; i < c->products; i++) {
        const struct product_rate *p = &c->product[i];
        double s = p->work / (peak_of(c, p->type) * curve_share(curve, p->work)) + loading_s(c, p);
        sum += pow(s / p->s - 1, 2);
    }
    return sqrt(sum / c->products);
}

/* ---- links ---- */

/* The seconds of a sample by cost/links.h on links of one byte a second and no latency, or of only latency. */
static double by_formula(const struct wire_sample *w, double Bps, double latency)
{
    bool across = w->reach.per_node == 1;
    struct machine m = {.intra_Bps = INFINITY, .inter_Bps = INFINITY};
    *(across ? &m.inter_Bps : &m.intra_Bps) = Bps;
    *(across ? &m.inter_s : &m.intra_s) = latency;
    switch (w->wire) {
    case WIRE_MESSAGE:
        return message_s(&m, across, w->bytes);
    case WIRE_REDUCE:
        return 2 * gather_s(&m, w->reach, w->bytes);
    case WIRE_EXCHANGE:
        return exchange_s(&m, w->reach, w->bytes);
    default:
        return gather_s(&m, w->reach, w->bytes);
    }
}

struct link_fit {
    double Bps, latency_s, residual; /* Bps 0: nothing was measured */
    int samples;
};

static struct link_fit fit_links(const struct calibration *c, bool across)
{
    struct observation *list = xcalloc((size_t)c->wires + 1, sizeof *list);
    struct link_fit f = {0};
    double per_byte;
    for (int i = 0; i < c->wires; i++) {
        const struct wire_sample *w = &c->wire[i];
        if ((w->reach.per_node == 1) == across && w->bytes <= WIRE_CACHED)
            list[f.samples++] =
                (struct observation){by_formula(w, 1, 0), by_formula(w, INFINITY, 1), w->seconds};
    }
    if (f.samples) {
        f.residual = fit_line(list, f.samples, &per_byte, &f.latency_s);
        f.Bps = per_byte > 0 ? 1 / per_byte : 0;
    }
    free(list);
    return f;
}

/* ---- the file ---- */

static json_t *product_remarks(const struct calibration *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->products; i++)
        json_array_append_new(list, json_pack("[s,f,f]", c->product[i].type == F32 ? "f32" : "bf16",
                                              c->product[i].work, c->product[i].work / c->product[i].s));
    return list;
}

static json_t *wire_remarks(const struct calibration *c)
{
    json_t *list = json_array();
    for (int i = 0; i < c->wires; i++) {
        const struct wire_sample *w = &c->wire[i];
        json_array_append_new(list,
                              json_pack("[s,i,s,f,f]", wire_name[w->wire], (int)w->reach.ranks,
                                        w->reach.per_node == 1 ? "across" : "inside", w->bytes, w->seconds));
    }
    return list;
}

static void put_links(json_t *root, const char *where, const struct link_fit *f)
{
    char key[32];
    if (!(f->Bps > 0))
        return;
    snprintf(key, sizeof key, "%s_Bps", where);
    json_object_set_new(root, key, json_real(f->Bps));
    snprintf(key, sizeof key, "%s_s", where);
    json_object_set_new(root, key, json_real(fmax(f->latency_s, 1e-9)));
}

json_t *calibrate_cluster(const struct calibration *c)
{
    const struct probe *p = c->p;
    const struct link_fit in = fit_links(c, false), out = fit_links(c, true);
    struct curve curve;
    fit_curve(c, &curve);
    json_t *points = json_array();
    for (int i = 0; i < curve.count; i++)
        json_array_append_new(points, json_pack("[f,f]", curve.at[i].flops, curve.at[i].share));
    json_t *root =
        json_pack("{s:o,s:s,s:i,s:i,s:f,s:f,s:{s:f,s:f},s:o}", "name", json_bytes(p->host), "device",
                  p->bench.be->device ? "cuda" : "cpu", "nodes", c->nodes, "ranks_per_node", c->per_node,
                  "memory_bytes", c->memory_bytes, "memory_Bps", c->memory_Bps / MEMORY_SHARE, "flops", "f32",
                  peak_of(c, F32), "bf16", peak_of(c, BF16), "efficiency", points);
    put_links(root, "intra", &in);
    put_links(root, "inter", &out);
    json_object_set_new(root, "_measured",
                        json_pack("{s:o,s:o,s:[f,f],s:f,s:f}", "products", product_remarks(c), "links",
                                  wire_remarks(c), "attention", c->attention[0], c->attention[1], "memory_Bps",
                                  c->memory_Bps, "operation_s", c->operation_s));
    if (p->bench.be->device) /* whose operations a processor starts */
        json_object_set_new(root, "host_s", json_real(c->operation_s));
    json_object_set_new(root, "_residual", json_pack("{s:f}", "products", curve_residual(c, &curve)));
    if (in.samples)
        json_object_set_new(json_object_get(root, "_residual"), "inside", json_real(in.residual));
    if (out.samples)
        json_object_set_new(json_object_get(root, "_residual"), "across", json_real(out.residual));
    return root;
}

/* SPDX-License-Identifier: MIT */
/* torchtitan (torchtitan/components/metrics.py and train.py of 0.1 to 0.2, and before), with or without
 * colours:
 *
 *   [titan] 2025-01-01 10:00:00,000 - root - INFO - step: 10  loss:  8.1234  grad_norm:  1.2345  memory:
 *   21.59GiB(22.72%)  tps: 1,234  tflops: 12.34  mfu: 1.23%
 *
 * tps (wps, in the first versions) is tokens a second and device. Where it is built, how long a sequence is and
 * at which step it begins are said at the start. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "stat/foreign.h"

/* "Building 2-D device mesh with ['dp_shard', 'tp'], [4, 2]": the product of the sizes. */
static bool read_mesh(struct foreign *g, const char *line)
{
    static const char *const axes[] = {"pp=", "dp_replicate=", "dp_shard=", "cp=", "tp="};
    double ranks = 1, v;
    const char *p = strstr(line, "device mesh with ");
    if (p && strstr(p, "], [")) {
        for (p = strstr(p, "], [") + 3; *p && *p != ']'; p += strcspn(p + 1, ",]") + 1)
            ranks *= foreign_number(p + 1, "", &v) ? v : NAN;
        foreign_world(g, ranks);
        return true;
    }
    p = strstr(line, "parallelism: ");
    for (size_t i = 0; p && i < sizeof axes / sizeof *axes; i++)
        ranks *= foreign_number(p, axes[i], &v) ? v : NAN;
    if (p)
        foreign_world(g, ranks); /* NaN is none */
    return p;
}

/* "Model llama3 8B size: 8,030,261,248 total parameters" */
static void read_model(struct foreign *g, const char *line)
{
    int64_t count;
    const char *p = strstr(line, "Model "), *size = p ? strstr(p, " size: ") : NULL;
    if (!size || !strstr(size, "total parameters") || !foreign_integer(size, "size:", &count))
        return;
    p += strlen("Model ");
    snprintf(g->log->model, sizeof g->log->model, "%.*s", (int)(size - p < 100 ? size - p : 100), p);
    g->log->parameters = count;
}

static void read_start(struct foreign *g, const char *line)
{
    double v;
    int64_t step;
    if (foreign_number(line, "Peak FLOPS used for computing MFU:", &v) && v > 0)
        foreign_segment(g)->peak_flops = g->log->peak_flops = v;
    const char *p = strstr(line, "Training starts at step");
    if (p && foreign_integer(p, "Training starts at step", &step) && step > 1)
        foreign_resumed(g, step - 1);
    if (!p)
        p = strstr(line, "Trainer is initialized with"); /* where later versions say the rest */
    if (p && foreign_number(p, "global batch size", &v) && v > 0)
        g->batch = v;
    if (p && foreign_number(p, "sequence length", &v) && v > 0)
        g->seq = v;
}

static bool read_eval(struct foreign *g, const char *line)
{
    int64_t step;
    double loss;
    const char *p = strstr(line, "validate step:");
    if (!p || !foreign_integer(p, "step:", &step) || !foreign_number(p, "loss:", &loss))
        return false;
    foreign_eval(g, step, loss);
    return true;
}

static bool read_step(struct foreign *g, const char *line)
{
    int64_t step;
    double v;
    const char *p = strstr(line, "step:");
    if (!p || !(strstr(p, "tps:") || strstr(p, "wps:")) || !foreign_integer(p, "step:", &step) ||
        !foreign_number(p, "loss:", &v))
        return false;
    struct step_record *r = foreign_step(g, step);
    r->loss = v;
    if (foreign_number(p, "grad_norm:", &v))
        r->grad_norm = v;
    r->diverged = !isfinite(r->loss) || isinf(r->grad_norm);
    if (foreign_number(p, "memory:", &v) && v > 0)
        r->peak_bytes = v * (1 << 30);
    if (foreign_number(p, "tps:", &v) || foreign_number(p, "wps:", &v))
        g->rank_rate = v;
    if (foreign_number(p, "tflops:", &v))
        g->tflops = v;
    else if (foreign_number(p, "mfu:", &v) && foreign_segment(g)->peak_flops > 0)
        g->tflops = v / 100 * foreign_segment(g)->peak_flops / 1e12; /* first versions: by the peak they name */
    return true;
}

static void read_line(struct foreign *g, const char *line)
{
    double v;
    if (read_eval(g, line) || read_step(g, line) || read_mesh(g, line))
        return;
    if (foreign_number(line, "Finished saving the checkpoint in", &v))
        foreign_save(g, g->step.step >= 0 ? g->step.step : g->last_step, v);
    if (strstr(line, "Training completed"))
        strcpy(g->log->end_reason, "training completed");
    read_model(g, line);
    read_start(g, line);
}

static bool wrote(const char *line)
{
    return strstr(line, "[titan]") ||
           (strstr(line, "step:") && strstr(line, "loss:") && (strstr(line, "tps:") || strstr(line, "wps:")));
}

const struct trainer trainer_torchtitan = {"torchtitan", wrote, read_line};

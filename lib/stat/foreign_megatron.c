/* SPDX-License-Identifier: MIT */
/* Megatron-LM (megatron/training/training.py, training_log() of core 0.1 to 0.15, and before), and what
 * descends from it. A line every --log-interval iterations, of fields between bars:
 *
 *    [2024-05-01 10:00:00] iteration       10/     100 | consumed samples:          160 |
 *   elapsed time per iteration (ms): 1234.5 | throughput per GPU (TFLOP/s/GPU): 400.1 |
 *   learning rate: 1.0E-04 | global batch size:    16 | lm loss: 8.0E+00 | load_balancing_loss: 1.0E+00 |
 *   loss scale: 1.0 | grad norm: 1.5 | number of skipped iterations:   0 | number of nan iterations:   0 |
 *
 * Time is a mean over the interval, and so is the loss. Fields come and go with versions and options. */
#include <math.h>
#include <string.h>

#include "stat/foreign.h"

/* "  seq_length ............... 4096", as arguments are printed. */
static bool argument(const char *line, const char *name, double *to)
{
    size_t n = strlen(name);
    const char *p = strstr(line, name);
    if (!p || p == line || p[-1] != ' ' || strncmp(p + n, " ..", 3) != 0)
        return false;
    p += n + 1;
    return foreign_number(p + strspn(p, "."), "", to);
}

static void read_arguments(struct foreign *g, const char *line)
{
    double v;
    if (argument(line, "world_size", &v) || foreign_number(line, "using world size:", &v))
        foreign_world(g, v);
    if (argument(line, "seq_length", &v) && v > 0)
        g->seq = v;
    if (argument(line, "global_batch_size", &v) && v > 0)
        g->batch = v;
    if (argument(line, "pipeline_model_parallel_size", &v) && v >= 1 && v < 1e6)
        foreign_segment(g)->pp = (int64_t)v;
    if (strstr(line, " params_dtype ..."))
        strcpy(g->log->precision, strstr(line, "bfloat16") ? "bf16" : strstr(line, "float16") ? "fp16" : "f32");
}

/* One field: its name ends in a colon. Later versions add more; those are passed over. */
static void read_field(struct foreign *g, struct step_record *r, const char *field)
{
    double v;
    if (foreign_number(field, "elapsed time per iteration (ms):", &v) && v > 0)
        r->time_s = v / 1000;
    else if (foreign_number(field, "learning rate:", &v))
        r->lr = v;
    else if (foreign_number(field, "global batch size:", &v) && v > 0)
        g->batch = v;
    else if (foreign_number(field, "lm loss:", &v) || foreign_number(field, "loss:", &v)) {
        r->loss = v;
        r->diverged |= !isfinite(v);
    } else if (foreign_number(field, "load_balancing_loss:", &v) || foreign_number(field, "moe loss:", &v))
        r->router_loss[LOSS_AUX] = v;
    else if (foreign_number(field, "z_loss:", &v))
        r->router_loss[LOSS_Z] = v;
    else if (foreign_number(field, "grad norm:", &v)) {
        r->grad_norm = v;
        r->diverged |= !isfinite(v);
    } else if (foreign_number(field, "number of nan iterations:", &v))
        r->diverged |= v > 0;
    else if (foreign_number(field, "throughput per GPU (TFLOP/s/GPU):", &v) ||
             foreign_number(field, "compute per GPU (TFLOP/s/GPU):", &v) ||
             foreign_number(field, "TFLOPs:", &v))
        g->tflops = v;
    else if (foreign_number(field, "tokens per GPU (tokens/s/GPU):", &v) ||
             foreign_number(field, "tokens per gpu per second (tgs):", &v))
        g->rank_rate = v;
}

static bool read_iteration(struct foreign *g, const char *line)
{
    char field[128];
    int64_t step;
    const char *p = strstr(line, "iteration ");
    if (!p || !strstr(p, "elapsed time per iteration (ms):") || !foreign_integer(p, "iteration", &step))
        return false;
    struct step_record *r = foreign_step(g, step);
    for (p = strchr(p, '|'); p; p = strchr(p, '|')) {
        p += 1 + strspn(p + 1, " ");
        size_t n = strcspn(p, "|");
        if (n < sizeof field) {
            memcpy(field, p, n);
            field[n] = '\0';
            read_field(g, r, field);
        }
    }
    return true;
}

/* "validation loss at iteration 100 | lm loss value: 5.0E+00 | …"; before, "… | value: 5.0"; of the test set
 * another. */
static bool read_eval(struct foreign *g, const char *line)
{
    int64_t step;
    double loss;
    const char *p = strstr(line, "validation loss at iteration");
    if (!p || strstr(p, "test set") || !foreign_integer(p, "validation loss at iteration", &step) ||
        !(foreign_number(p, "lm loss value:", &loss) || foreign_number(p, "value:", &loss)))
        return false;
    foreign_eval(g, step, loss);
    return true;
}

static bool read_checkpoint(struct foreign *g, const char *line)
{
    int64_t step;
    const char *p = strstr(line, "successfully saved checkpoint");
    if (p && foreign_integer(p, "iteration", &step)) {
        foreign_save(g, step, NAN);
        return true;
    }
    p = strstr(line, "successfully loaded checkpoint");
    p = p ? strstr(p, "at iteration") : NULL;
    if (p && foreign_integer(p, "at iteration", &step)) {
        foreign_resumed(g, step);
        return true;
    }
    return false;
}

/* "[Rank 0] (after 10 iterations) memory (MB) | allocated: 1.5 | max allocated: 2.5 | reserved: …" in MiB. The
 * step that it is of has been written before it. */
static void read_memory(struct foreign *g, const char *line)
{
    double v;
    if (strstr(line, " memory (MB) |") && foreign_number(line, "max allocated:", &v) && v > 0 &&
        g->step.step >= 0)
        g->step.peak_bytes = fmax(g->step.peak_bytes, v * (1 << 20)); /* which passes over a NaN */
}

static void read_line(struct foreign *g, const char *line)
{
    if (read_iteration(g, line) || read_eval(g, line) || read_checkpoint(g, line))
        return;
    if (foreign_timers(g, line))
        return;
    read_memory(g, line);
    read_arguments(g, line);
}

/* Not by its arguments: below Megatron DeepSpeed may work, whose lines come before the first iteration's. */
static bool wrote(const char *line)
{
    return strstr(line, "elapsed time per iteration (ms):");
}

const struct trainer trainer_megatron = {"Megatron-LM", wrote, read_line};

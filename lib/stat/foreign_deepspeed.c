/* SPDX-License-Identifier: MIT */
/* DeepSpeed (runtime/engine.py, runtime/pipe/engine.py, utils/timer.py of 0.5 to 0.17), alone or below
 * Megatron-DeepSpeed, whose iterations are Megatron's. Every steps_per_print steps:
 *
 *   [2023-05-01 10:00:00,000] [INFO] [logging.py:96:log_dist] [Rank 0] step=10, skipped=0, lr=[0.0001], mom=[…]
 *   [… timer.py:260:stop] epoch=0/micro_step=20/global_step=10, RunningAvgSamplesPerSec=12.3,
 *   CurrSamplesPerSec=12.5, MemAllocated=3.2GB, MaxMemAllocated=10.2GB
 *   [… logging.py:96:log_dist] [Rank 0] time (ms) | fwd: 1.0 | bwd: 2.0 | bwd_inner: 1.5 | bwd_allreduce: 0.5 |
 *   step: 0.2
 *   steps: 10 loss: 2.3000 iter time (s): 0.500 samples/sec: 64.000          (the pipeline engine)
 *
 * The engine alone knows no loss, and none knows how long a sequence is. */
#include <math.h>
#include <string.h>

#include "stat/foreign.h"

static void read_config(struct foreign *g, const char *line)
{
    double v;
    const char *p = strstr(line, " train_batch_size ..");
    if (p &&
        foreign_number(p + strlen(" train_batch_size ") + strspn(p + strlen(" train_batch_size "), "."), "",
                       &v) &&
        v > 0)
        g->batch = v;
    if (foreign_number(line, "world size:", &v) || foreign_number(line, "world_size=", &v))
        foreign_world(g, v);
    if (strstr(line, " bfloat16_enabled ...") && strstr(line, "True"))
        strcpy(g->log->precision, "bf16");
    if (strstr(line, " fp16_enabled ...") && strstr(line, "True"))
        strcpy(g->log->precision, "fp16");
}

static bool read_step(struct foreign *g, const char *line)
{
    int64_t step;
    double v;
    const char *p = strstr(line, "[Rank 0] step=");
    if (!p || !foreign_integer(p, "step=", &step))
        return false;
    struct step_record *r = foreign_step(g, step);
    if (foreign_number(p, "lr=[", &v))
        r->lr = v;
    return true;
}

/* Of a step's own time; the first ones have none. */
static void read_time(struct foreign *g, struct step_record *r, double samples_per_s)
{
    if (samples_per_s > 0 && g->batch > 0)
        r->time_s = g->batch / samples_per_s;
}

static bool read_speed(struct foreign *g, const char *line)
{
    int64_t step;
    double v;
    if (!strstr(line, "SamplesPerSec=") || !foreign_integer(line, "global_step=", &step))
        return false;
    struct step_record *r = foreign_step(g, step);
    if (foreign_number(line, "CurrSamplesPerSec=", &v))
        read_time(g, r, v);
    if (foreign_number(line, "MaxMemAllocated=", &v) && v > 0)
        r->peak_bytes = v * (1 << 30);
    return true;
}

static bool read_pipeline(struct foreign *g, const char *line)
{
    int64_t step;
    double v, time_s;
    const char *p = strstr(line, "steps: ");
    if (!p || !foreign_integer(p, "steps:", &step) || !foreign_number(p, "iter time (s):", &time_s))
        return false;
    struct step_record *r = foreign_step(g, step);
    if (time_s > 0)
        r->time_s = time_s;
    if (foreign_number(p, "samples/sec:", &v) && v > 0 && time_s > 0 && !(g->batch > 0))
        g->batch = round(v * time_s); /* it is their ratio by which the line was made */
    if (foreign_number(p, "loss:", &v)) {
        r->loss = v;
        r->diverged |= !isfinite(v);
    }
    return true;
}

/* With wall_clock_breakdown every step says this, without its number: the one behind a numbered step is its. */
static void read_phases(struct foreign *g, const char *line)
{
    struct {
        const char *name;
        enum phase phase;
    } names[] = {{"fwd:", PHASE_FORWARD},
                 {"bwd_inner:", PHASE_BACKWARD},
                 {"bwd_allreduce:", PHASE_DP},
                 {"step:", PHASE_OPTIMIZER}};
    double v;
    const char *p = strstr(line, "time (ms) | fwd:");
    for (size_t i = 0; p && g->step.step >= 0 && i < sizeof names / sizeof *names; i++)
        if (isnan(g->step.phase_s[names[i].phase]) && foreign_number(p, names[i].name, &v) && v >= 0)
            g->step.phase_s[names[i].phase] = v / 1000;
}

/* "[Torch] Checkpoint global_step100 is ready now!" */
static bool read_save(struct foreign *g, const char *line)
{
    int64_t step;
    const char *p = strstr(line, "Checkpoint global_step");
    if (!p || !strstr(p, "is ready now") || !foreign_integer(p, "global_step", &step))
        return false;
    foreign_save(g, step, NAN);
    return true;
}

static void read_line(struct foreign *g, const char *line)
{
    if (read_step(g, line) || read_speed(g, line) || read_pipeline(g, line) || read_save(g, line))
        return;
    read_phases(g, line);
    read_config(g, line);
    trainer_megatron.read(g, line);
}

static bool wrote(const char *line)
{
    return strstr(line, "SamplesPerSec=") || strstr(line, "[Rank 0] step=") ||
           strstr(line, "DeepSpeed info: version") || strstr(line, "DeepSpeedEngine configuration") ||
           (strstr(line, "steps: ") && strstr(line, "iter time (s): ") && strstr(line, "samples/sec: "));
}

const struct trainer trainer_deepspeed = {"DeepSpeed", wrote, read_line};

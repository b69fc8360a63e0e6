/* SPDX-License-Identifier: MIT */
#include "train/log.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/format.h"
#include "base/json.h"
#include "base/losses.h"
#include "cost/cluster.h"
#include "model/size.h"
#include "plan/schedule.h"

int log_check(const char *path)
{
    if (!path || !file_exists(path) || is_dir(path))
        return output_check(path);
    return access(path, W_OK) < 0 ? error_errno("cannot write '%s'", path) : 0; /* its directory need not be */
}

int log_open(struct log *l, const char *path)
{
    struct stat st;
    *l = (struct log){.f = stdout, .path = path};
    if (!path || strcmp(path, "-") == 0)
        return 0;
    bool there = stat(path, &st) == 0;
    bool is_file = !there || S_ISREG(st.st_mode); /* of anything else nothing is read back */
    if (!(l->f = fopen(path, is_file ? "a+" : "a")))
        return error_errno("cannot write '%s'", path);
    if (is_file && fseek(l->f, -1, SEEK_END) == 0 && fgetc(l->f) != '\n' &&
        (fseek(l->f, 0, SEEK_END) != 0 || fputc('\n', l->f) == EOF || fflush(l->f) != 0))
        return error_errno("cannot write '%s'", path);
    return there ? 0 : sync_parent(path);
}

int log_close(struct log *l)
{
    int r = 0;
    if (l->f && l->f != stdout && fclose(l->f) != 0)
        r = error_errno("cannot write '%s'", l->path);
    l->f = NULL;
    return r;
}

/* All of it or nothing, where the file can be cut: what a full disk takes of a line would spoil the next one
 * too. */
static int append(const struct log *l, const char *line, size_t bytes)
{
    struct stat st;
    int fd = fileno(l->f), e;
    off_t before = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : -1;
    for (size_t done = 0; done < bytes;) {
        ssize_t n = write(fd, line + done, bytes - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            e = errno;
            if (before >= 0 && done > 0 && ftruncate(fd, before) != 0)
                return error_errno("cannot take half a line from '%s'", l->path);
            errno = e;
            return error_errno("cannot write '%s'", l->path);
        }
    }
    return file_sync(fd, l->path);
}

int log_write(struct log *l, json_t *record)
{
    if (!record)
        return error(STATUS_ENV, "a record of the step log could not be made");
    char *text = l->f ? json_dumps(record, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(record);
    if (!l->f)
        return 0;
    if (!text)
        return error(STATUS_ENV, "a record of the step log could not be written down");
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of its NUL */
    int r = 0;
    if (l->f != stdout)
        r = append(l, text, n + 1);
    else if (fwrite(text, 1, n + 1, stdout) != n + 1 || fflush(stdout) != 0)
        r = error_errno("cannot write to standard output");
    free(text);
    return r;
}

json_t *log_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *axes(const struct axes *a)
{
    return json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "tp", (json_int_t)a->tp, "cp", (json_int_t)a->cp,
                     "ep", (json_int_t)a->ep, "etp", (json_int_t)a->etp, "edp", (json_int_t)a->edp, "dp",
                     (json_int_t)a->dp, "pp", (json_int_t)a->pp, "vpp", (json_int_t)a->vpp);
}

json_t *log_start_record(const struct engine *e, const struct train_options *o, int64_t step, int threads,
                         int hosts)
{
    const struct plan *p = e->plan;
    const struct model *m = e->model;
    double peak = machine_peak(&p->machine, p->training.precision);
    char crc[16], when[40];
    time_t now = time(NULL);
    snprintf(crc, sizeof crc, "%08x", p->crc32);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    json_t *r =
        json_pack("{s:s,s:i,s:s,s:s,s:o,s:s,s:o,s:i,s:o}", "kind", "start", log_format.key, log_format.version,
                  "version", VERSION, "time", when, "command", json_bytes(o->command_line), "plan", crc,
                  "model", json_bytes(m->name), "world", p->world, "axes", axes(&p->axes));
    json_t *more =
        json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:o,s:o,s:s,s:s,s:s,s:i,s:i,s:I,s:o}", "seq",
                  (json_int_t)p->batch.seq, "micro_batch", (json_int_t)p->batch.micro, "global_batch",
                  (json_int_t)p->batch.global, "layers", (json_int_t)m->layers, "experts",
                  (json_int_t)m->experts, "top_k", (json_int_t)m->top_k, "parameters",
                  (json_int_t)model_parameters(m), "active_parameters", (json_int_t)model_active_parameters(m),
                  "flops_per_token", log_real(model_flops_per_token(m, p->batch.seq)), "peak_flops",
                  peak > 0 ? json_real(peak) : json_null(), "precision", precision_name[p->training.precision],
                  "backend", e->be->name, "comm", comm_kind(e->comm), "threads", threads, "hosts", hosts,
                  "step", (json_int_t)step, "predicted_bytes", log_real(p->predict.memory_bytes));
    json_object_update(r, more);
    json_decref(more);
    json_object_set_new(r, "schedule", json_string(plan_schedule(p)->name));
    json_object_set_new(r, "recompute", json_string(recompute_name[p->training.recompute]));
    json_object_set_new(r, "device_bytes",
                        p->machine.memory_bytes > 0 ? log_real(p->machine.memory_bytes) : json_null());
    const struct backend_device *d = e->be->device;
    if (d)
        json_object_update_new(r,
                               json_pack("{s:o,s:I,s:I}", "device", json_bytes(d->name), "device_bytes",
                                         (json_int_t)d->bytes, "context_bytes", (json_int_t)d->context_bytes));
    json_object_set_new(r, "capture",
                        *e->capture.off ? json_sprintf("off: %s", e->capture.off) : json_string("on"));
    json_object_set_new(r, "overlap", json_string(e->overlap ? "on" : "off"));
    return r;
}

static json_t *phases(const struct engine *e, const struct figures *all)
{
    json_t *o = json_object();
    for (int k = 0; k < PHASES; k++)
        json_object_set_new(o, phase_name[k],
                            json_pack("{s:f,s:f,s:I}", "mean", all->sum_s[k] / e->plan->world, "max",
                                      all->phase_s[k].value, "rank", (json_int_t)all->phase_s[k].rank));
    return o;
}

/* Communication of the step, mean over ranks: exposed is what the stream that computes did or waited for, busy
 * that and what was hidden beside other work. */
static json_t *communication(const struct engine *e, const struct figures *all)
{
    static const struct {
        const char *name;
        enum phase first, last;
    } kinds[] = {{"ep", PHASE_DISPATCH, PHASE_COMBINE},
                 {"tp", PHASE_TP, PHASE_TP},
                 {"pp", PHASE_PP, PHASE_PP},
                 {"dp", PHASE_DP, PHASE_DP}};
    json_t *o = json_object();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        double exposed = 0, hidden = 0, n = (double)e->plan->world;
        for (int ph = kinds[k].first; ph <= (int)kinds[k].last; ph++) {
            exposed += all->sum_s[ph];
            hidden += all->hidden_s[ph];
        }
        json_object_set_new(o, kinds[k].name,
                            json_pack("{s:f,s:f}", "busy", (exposed + hidden) / n, "exposed", exposed / n));
    }
    return o;
}

/* Expert loads over their mean, a layer at a time, averaged over layers. */
static json_t *load_summary(const struct engine *e, const float *loads)
{
    double max = 0, min = 0, std = 0;
    int64_t layers = e->model->moe_layers, E = e->E;
    for (int64_t l = 0; l < layers; l++) {
        const float *x = loads + l * E;
        double sum = 0, high = x[0], low = x[0], square = 0;
        for (int64_t i = 0; i < E; i++) {
            sum += x[i];
            high = fmax(high, x[i]);
            low = fmin(low, x[i]);
        }
        double mean = sum / (double)E;
        for (int64_t i = 0; i < E; i++)
            square += (x[i] / mean - 1) * (x[i] / mean - 1);
        max += high / mean;
        min += low / mean;
        std += sqrt(square / (double)E);
    }
    double n = layers ? (double)layers : 1;
    return json_pack("{s:o,s:o,s:o}", "max_over_mean", log_real(max / n), "min_over_mean", log_real(min / n),
                     "std", log_real(std / n));
}

static json_t *expert_load(const struct engine *e, const float *loads)
{
    json_t *all = json_array();
    for (int64_t l = 0; l < e->model->moe_layers; l++) {
        json_t *one = json_array();
        for (int64_t i = 0; i < e->E; i++)
            json_array_append_new(one, json_integer((json_int_t)loads[l * e->E + i]));
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *memory(const struct engine *e, const struct figures *all)
{
    json_t *list = json_array();
    for (int pp = 0; pp < e->plan->axes.pp; pp++)
        json_array_append_new(list,
                              json_pack("{s:i,s:I,s:I}", "stage", pp, "max", (json_int_t)all->bytes[pp].value,
                                        "rank", (json_int_t)all->bytes[pp].rank));
    return list;
}

json_t *log_step_record(const struct engine *e, const struct step_report *r)
{
    json_t *o =
        json_pack("{s:s,s:I,s:o}", "kind", "step", "step", (json_int_t)r->step, "loss", log_real(r->loss));
    for (int i = 0; i < ROUTER_LOSSES; i++)
        json_object_set_new(o, router_loss_style[i].key, log_real(r->router_loss[i]));
    json_object_set_new(o, "grad_norm", log_real(r->grad_norm));
    json_object_set_new(o, "lr", log_real(r->lr));
    json_object_set_new(o, "tokens", json_integer((json_int_t)r->tokens));
    json_object_set_new(o, "time_s", log_real(r->time_s));
    json_object_set_new(o, "phases", phases(e, r->all));
    json_object_set_new(o, "comm", communication(e, r->all));
    json_object_set_new(o, "dropped", json_integer((json_int_t)r->dropped));
    json_object_set_new(o, "overflow", json_integer((json_int_t)r->overflow));
    if (e->capture.parts)
        json_object_set_new(o, "graphs", json_integer((json_int_t)e->capture.runs));
    json_object_set_new(o, "memory_bytes", memory(e, r->all));
    double peak = 0;
    for (int pp = 0; pp < e->plan->axes.pp; pp++)
        peak = fmax(peak, r->all->bytes[pp].value);
    json_object_set_new(o, "peak_bytes", json_integer((json_int_t)peak));
    if (e->model->moe_layers) {
        json_object_set_new(o, "load", load_summary(e, r->loads));
        if (r->with_loads)
            json_object_set_new(o, "expert_load", expert_load(e, r->loads));
    }
    return o;
}

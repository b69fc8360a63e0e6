/* SPDX-License-Identifier: MIT */
#include "stat/foreign.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"

enum { LONGEST = 1 << 16 };      /* bytes of a line that are read */
static const double MOST = 9e15; /* what counts are believed up to */

static const struct trainer *const trainers[] = {&trainer_megatron, &trainer_deepspeed, &trainer_torchtitan};

/* ---- lines ---- */

/* Without colours, and as one string: what is no text becomes a blank. */
static void clean(char to[static LONGEST], const char *p, const char *end)
{
    size_t n = 0;
    while (p < end && n + 1 < LONGEST) {
        if (*p == '\033' && p + 1 < end && p[1] == '[') {
            for (p += 2; p < end && (*p < '@' || *p > '~');)
                p++;
            p += p < end;
            continue;
        }
        to[n++] = (unsigned char)*p < ' ' || *p == 0x7f ? ' ' : *p;
        p++;
    }
    to[n] = '\0';
}

static const char *find(const char *line, const char *name)
{
    size_t n = strlen(name);
    for (const char *p = line; (p = strstr(p, name)); p++)
        if (p == line || strchr(" |,/[(", p[-1]))
            return p + n;
    return NULL;
}

bool foreign_number(const char *line, const char *name, double *to)
{
    char digits[64];
    const char *p = find(line, name);
    size_t n = 0;
    if (!p)
        return false;
    p += strspn(p, " ");
    for (; *p && n + 1 < sizeof digits; p++) {
        if (*p == ',' && strspn(p + 1, "0123456789") == 3)
            continue; /* of thousands */
        if (!strchr("0123456789+-.eEinfaNInf", *p))
            break;
        digits[n++] = *p;
    }
    digits[n] = '\0';
    char *rest;
    double v = strtod(digits, &rest);
    if (rest == digits)
        return false;
    *to = v;
    return true;
}

bool foreign_integer(const char *line, const char *name, int64_t *to)
{
    double v;
    if (!foreign_number(line, name, &v) || !(v >= 0 && v < MOST) || v != floor(v))
        return false;
    *to = (int64_t)v;
    return true;
}

/* ---- who wrote it ---- */

static bool is_ours(const char *line)
{
    const char *brace = strchr(line, '{');
    return brace && strstr(brace, "\"kind\"");
}

bool foreign_decide(const struct log_lines *l, const struct trainer **who)
{
    char *text = xmalloc(LONGEST);
    bool decided = false;
    *who = NULL;
    for (const char *p = l->text, *end; !decided && p < l->text + l->bytes; p = end + 1) {
        end = memchr(p, '\n', (size_t)(l->text + l->bytes - p));
        clean(text, p, end);
        decided = is_ours(text);
        for (size_t k = 0; !decided && k < sizeof trainers / sizeof *trainers; k++)
            if (trainers[k]->wrote(text)) {
                *who = trainers[k];
                decided = true;
            }
    }
    free(text);
    return decided;
}

const struct trainer *foreign_detect(const struct log_source *s)
{
    const struct trainer *found = NULL;
    struct log_lines l = {0};
    for (int64_t i = 0; i < FOREIGN_LOOK / PIECE && i * PIECE < s->bytes; i++)
        if (log_source_lines(s, i, &l) < 0 || foreign_decide(&l, &found))
            break; /* what cannot be read, who reads it says so */
    log_lines_release(&l);
    return found;
}

/* ---- what is read ---- */

struct log_segment *foreign_segment(struct foreign *g)
{
    return &g->log->segments[g->log->segment_count - 1];
}

/* The job was started (again); what it said of itself holds on. */
static void begin(struct foreign *g, int64_t from)
{
    struct log_segment before = {0};
    bool first = g->log->segment_count == 0;
    if (!first)
        before = *foreign_segment(g);
    struct log_segment *s = steplog_begin(g->log);
    stage_memory_clear(&s->memory);
    s->started = true;
    s->from = from;
    if (!first) {
        s->world = before.world;
        s->seq = before.seq;
        s->global_batch = before.global_batch;
        s->flops_per_token = before.flops_per_token;
        s->peak_flops = before.peak_flops;
    }
    g->log->starts++;
}

void foreign_world(struct foreign *g, double ranks)
{
    if (ranks >= 1 && ranks <= 1 << 24)
        foreign_segment(g)->world = g->log->world = (int)ranks;
}

/* What the step's lines tell together. */
static void derive(struct foreign *g, struct step_record *r)
{
    struct log_segment *s = foreign_segment(g);
    double tokens = g->batch * g->seq;
    s->seq = g->seq > 0 && g->seq < MOST ? (int64_t)g->seq : 0;
    s->global_batch = g->batch > 0 && g->batch < MOST ? (int64_t)g->batch : 0;
    if (tokens > 0 && tokens < MOST)
        r->tokens = (int64_t)tokens;
    double by_rate = g->rank_rate * s->world * r->time_s; /* NaN where the time is not known */
    if (r->tokens <= 0 && by_rate > 0 && by_rate < MOST)
        r->tokens = llround(by_rate);
    if (isnan(r->time_s) && g->rank_rate > 0 && r->tokens > 0 && s->world > 0)
        r->time_s = (double)r->tokens / (g->rank_rate * s->world);
    if (g->tflops > 0 && r->time_s > 0 && r->tokens > 0 && s->world > 0 && !g->paused) {
        g->flop_time += g->tflops * r->time_s * s->world;
        g->flop_tokens += (double)r->tokens;
        s->flops_per_token = g->log->flops_per_token = 1e12 * g->flop_time / g->flop_tokens;
    }
    if (r->peak_bytes > 0)
        stage_memory_add(&s->memory, 0, r->peak_bytes, -1);
}

static void add_save(struct foreign *g)
{
    if (g->save.step >= 0)
        steplog_add_save(g->log, &g->save);
    g->save.step = -1;
}

/* The step as far as it was read. What was added of it when it paused goes. */
static void add_open(struct foreign *g)
{
    struct step_record *r = &g->step;
    struct spool *steps = &g->log->step_spool;
    if (g->paused)
        spool_truncate(steps, steps->count - 1);
    else if (g->resumed >= 0 && g->steps == 0)
        foreign_segment(g)->from = g->resumed;
    else if (r->step <= g->last_step || g->resumed >= 0)
        begin(g, g->resumed >= 0 && g->resumed < r->step ? g->resumed : r->step - 1);
    derive(g, r);
    steplog_add_step(g->log, r);
    g->steps += !g->paused;
    g->last_step = r->step;
    g->resumed = -1;
    g->any_tokens |= r->tokens > 0;
    g->any_time |= r->time_s > 0;
    g->any_loss |= !isnan(r->loss);
}

/* What was read of a step and of a checkpoint is all of it. */
static void add_step(struct foreign *g)
{
    add_save(g);
    if (g->step.step < 0)
        return;
    add_open(g);
    g->step.step = -1;
    g->paused = false;
    g->tflops = g->rank_rate = 0;
}

void foreign_pause(struct foreign *g)
{
    add_save(g);
    if (g->step.step < 0)
        return;
    add_open(g);
    g->paused = true;
}

struct step_record *foreign_step(struct foreign *g, int64_t step)
{
    if (g->step.step == step)
        return &g->step;
    add_step(g);
    step_record_clear(&g->step);
    g->timers = (struct megatron_timers){.listed = -1};
    g->step.step = step;
    g->step.log = g->source;
    g->step.at = g->at;
    return &g->step;
}

void foreign_resumed(struct foreign *g, int64_t step)
{
    add_step(g);
    g->resumed = step;
}

void foreign_eval(struct foreign *g, int64_t step, double loss)
{
    add_step(g);
    steplog_add_eval(g->log,
                     &(struct log_event){.step = (double)step, .loss = loss, .time_s = NAN, .bytes = NAN});
}

void foreign_save(struct foreign *g, int64_t step, double seconds)
{
    add_step(g);
    g->save = (struct log_event){.step = (double)step, .loss = NAN, .time_s = seconds, .bytes = NAN};
}

/* ---- the log ---- */

static const char *phases_missing(const struct foreign *g)
{
    return g->phases == FOREIGN_MEANS    ? "experts' loads"
           : g->phases == FOREIGN_BOUNDS ? "means over ranks of phases, experts' loads"
                                         : "phases by rank, experts' loads";
}

void foreign_say(struct foreign *g, const char *path)
{
    struct {
        bool missing;
        const char *what;
    } list[] = {
        {!(g->log->world > 0), "how many ranks there were"},
        {!(g->seq > 0), "how long a sequence is"},
        {!(g->batch > 0), "how many sequences a step has"},
        {!g->any_tokens, "tokens"},
        {!g->any_time, "the time of a step"},
        {!g->any_loss, "losses"},
        {!(g->log->flops_per_token > 0), "floating-point operations"},
        {!(g->log->peak_flops > 0), "the peak of a device"},
        {true, phases_missing(g)},
    };
    char text[400];
    int n = 0;
    if (g->said)
        return;
    g->said = true;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].missing)
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%s", n ? ", " : "", list[i].what);
    notice("%s: a log of %s; it does not tell: %s", path, g->trainer->name, text);
}

struct foreign *foreign_begin(struct steplog *log, int source, const struct trainer *t)
{
    struct foreign *g = xcalloc(1, sizeof *g);
    *g = (struct foreign){.log = log,
                          .trainer = t,
                          .source = source,
                          .step.step = -1,
                          .save.step = -1,
                          .last_step = -1,
                          .resumed = -1,
                          .seq = (double)log->hint.seq,
                          .batch = (double)log->hint.global_batch,
                          .text = xmalloc(LONGEST)};
    begin(g, -1);
    foreign_world(g, log->hint.world);
    log->kind = t->name;
    return g;
}

void foreign_lines(struct foreign *g, const struct log_lines *l)
{
    for (const char *p = l->text, *end; p < l->text + l->bytes; p = end + 1) {
        end = memchr(p, '\n', (size_t)(l->text + l->bytes - p));
        g->at = l->at + (p - l->text);
        clean(g->text, p, end);
        g->trainer->read(g, g->text);
    }
    g->log->skipped_lines += l->dropped;
    g->log->cut |= l->cut;
}

void foreign_end(struct foreign *g)
{
    add_step(g);
    free(g->text);
    free(g);
}

int foreign_read(struct steplog *log, int source, const struct trainer *t)
{
    const struct log_source *s = &log->sources[source];
    struct foreign *g = foreign_begin(log, source, t);
    struct log_lines l = {0};
    int r = 0;
    for (int64_t i = 0; r == 0 && i * PIECE < s->bytes; i++)
        if ((r = log_source_lines(s, i, &l)) == 0)
            foreign_lines(g, &l);
    add_step(g);
    if (r == 0)
        foreign_say(g, s->path);
    foreign_end(g);
    log_lines_release(&l);
    return r;
}

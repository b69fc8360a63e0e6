/* SPDX-License-Identifier: MIT */
/* moe-stat: what a step log says. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"
#include "stat/check.h"
#include "stat/plot.h"
#include "stat/report.h"
#include "stat/spans.h"
#include "stat/steplog.h"
#include "stat/summary.h"
#include "stat/trace.h"

struct claims {
    struct claim {
        const char *text;
        struct check check;
    } * claim;
    int count;
};

static const char *format = "text", *output, *plot, *trace;
static int64_t skip;
static struct steps {
    int64_t first, last;
} steps = {0, INT64_MAX};
static bool loads;
static struct claims claims;

static int take_check(const char *arg, void *value)
{
    struct claims *c = value;
    c->claim = xrealloc(c->claim, (size_t)c->count + 1, sizeof *c->claim);
    c->claim[c->count].text = arg;
    return check_parse(&c->claim[c->count++].check, arg);
}

static bool panels[PANELS];

/* LIST of names. */
static int take_panels(const char *arg, void *value)
{
    bool *wanted = value;
    char name[16], all[160];
    for (const char *p = arg, *end; p; p = *end ? end + 1 : NULL) {
        end = strchrnul(p, ',');
        snprintf(name, sizeof name, "%.*s", (int)min64(end - p, sizeof name - 1), p);
        int i = word_index(&panel_words, name);
        if (i < 0)
            return error(STATUS_USAGE, "no panel '%s'; there are %s", name,
                         words_text(&panel_words, all, sizeof all));
        wanted[i] = true;
    }
    return 0;
}

/* A, or A-B. */
static int take_steps(const char *arg, void *value)
{
    struct steps *s = value;
    const char *dash = strchr(arg, '-');
    char from[24] = "";
    if (dash && dash - arg < (int)sizeof from)
        memcpy(from, arg, (size_t)(dash - arg));
    bool ok = parse_int(dash ? from : arg, 0, INT64_MAX, &s->first);
    s->last = s->first;
    ok = ok && (!dash || parse_int(dash + 1, s->first, INT64_MAX, &s->last));
    return ok ? 0 : error(STATUS_USAGE, "--steps '%s': A or A-B is wanted, with A <= B", arg);
}

static const struct opt opts[] = {
    {'f', "format", "FORMAT", "text, json or csv", OPT_CHOICE, &format, .choices = "text|json|csv"},
    {'s', "skip", "N", "leave the first N steps of the log out of throughput", OPT_INT, &skip, 0, 1e15},
    {'c', "check", "'FIGURE OP X'", "verdict on a figure: 1 if it does not hold", OPT_CALL, &claims,
     .call = take_check},
    {0, "loads", NULL, "the experts' loads over the log: a line a MoE layer", OPT_FLAG, &loads},
    {0, "plot", "FILE", "draw the run, as FILE.png, FILE.svg, or - for a terminal", OPT_TEXT, &plot},
    {0, "panels", "LIST", "draw these: loss,speed,phases,imbalance,experts,gradient,schedule", OPT_CALL, panels,
     .call = take_panels},
    {0, "trace", "FILE", "timelines (moe-train --timeline) as a trace for ui.perfetto.dev", OPT_TEXT, &trace},
    {0, "steps", "A-B", "these steps of the timelines alone", OPT_CALL, &steps, .call = take_steps},
    {'o', "output", "FILE", "write there instead of to stdout", OPT_TEXT, &output},
};

static const struct command command = {
    .name = "moe-stat",
    .synopsis = "moe-stat [-f FORMAT] [--skip N] [-o FILE] LOG...\n"
                "moe-stat --check 'FIGURE OP X' [--check ...] [--skip N] LOG...\n"
                "moe-stat --loads [-o FILE] LOG...\n"
                "moe-stat --plot FILE.png|FILE.svg|- [--panels LIST] [--skip N] [--steps A-B] LOG|TIMELINE...\n"
                "moe-stat --trace FILE.json|- [--steps A-B] TIMELINE...",
    .about = "reports on a training run from its step log; several LOGs are one run in pieces, in order",
    OPTS(opts),
    .notes =
        "FIGURE is a name from --format json; OP is < <= > >= = (to the digits written) or ~ (within 10%).\n"
        "Exit status: 0 done, 1 a check does not hold, 2 bad usage or input, 3 the environment failed.\n"
        "Example: moe-stat --skip 10 --check 'mfu > 0.4' --check 'dropped = 0' run.jsonl",
};

/* A line a claim; STATUS_NO when one of them does not hold. */
static int print_verdicts(FILE *f, const struct summary *s)
{
    int status = STATUS_DONE;
    for (int i = 0; i < claims.count; i++) {
        const struct claim *c = &claims.claim[i];
        bool holds = check_holds(&c->check, s);
        double value = figure_value(s, c->check.figure);
        fprintf(f, "%-4s %s: %s is ", holds ? "ok" : "FAIL", c->text, c->check.figure->name);
        fprintf(f, isnan(value) ? "unknown\n" : "%.6g\n", value);
        if (!holds)
            status = STATUS_NO;
    }
    return status;
}

static int print_all(FILE *f, struct steplog *log, const struct loads *l, const struct summary *s)
{
    if (loads)
        return report_loads(f, l);
    if (claims.count)
        return print_verdicts(f, s);
    if (strcmp(format, "json") == 0)
        report_json(f, log, s);
    else if (strcmp(format, "csv") == 0)
        report_csv(f, log, s);
    else
        report_text(f, log, l, s, skip);
    return STATUS_DONE;
}

static void say_trace(const struct trace_counts *c)
{
    notice("%lld operations of %lld rank%s, %lld collectives and messages linked", (long long)c->operations,
           (long long)c->ranks, c->ranks == 1 ? "" : "s", (long long)c->linked);
    if (c->missing)
        notice("%lld ranks of the run have no timeline here", (long long)c->missing);
    if (c->unlinked)
        notice("%lld parts of communication are not linked: nothing here says with whom they were",
               (long long)c->unlinked);
    if (c->apart_s > 0)
        notice("the hosts' clocks differ: a collective ended on one rank %.3g s before it began on another",
               c->apart_s);
    if (c->skipped)
        notice("%zu lines are no records of a timeline, and were skipped", c->skipped);
}

static int write_trace(char **paths, int count)
{
    struct trace_counts c;
    struct output o;
    TRY(output_open(&o, trace));
    if (trace_write(o.stream, paths, count, steps.first, steps.last, &c) < 0) {
        output_abandon(&o);
        return -1;
    }
    TRY(output_commit(&o));
    say_trace(&c);
    return STATUS_DONE;
}

/* Logs before timelines; returns how many are logs. */
static int logs_first(char **paths, int count)
{
    int logs_seen = 0;
    for (int i = 0; i < count; i++)
        if (!spans_here(paths[i])) {
            char *log = paths[i];
            memmove(&paths[logs_seen + 1], &paths[logs_seen], (size_t)(i - logs_seen) * sizeof *paths);
            paths[logs_seen++] = log;
        }
    return logs_seen;
}

/* Returns the status, or -1 with error() set. */
static int run(struct steplog *log, struct loads *l, char **paths, int count)
{
    struct summary s;
    struct output o;
    int logs = plot ? logs_first(paths, count) : count;
    struct picture picture = {
        .timelines = paths + logs, .timeline_count = count - logs, .first = steps.first, .last = steps.last};
    if (logs) {
        if (steplog_read(log, paths, logs, 0) < 0 || loads_read(l, log, 0) < 0)
            return -1;
        if (summary_make(&s, log, l, skip, NULL) < 0)
            return error_prefix("%s", paths[logs - 1]);
        picture.log = log;
        picture.loads = l;
        picture.s = &s;
    }
    if (plot)
        return plot_write(plot, &picture, panels);
    if (output_open(&o, output) < 0)
        return -1;
    int status = print_all(o.stream, log, l, &s);
    if (status < 0) {
        output_abandon(&o);
        return error_prefix("%s", paths[logs - 1]);
    }
    return output_commit(&o) < 0 ? -1 : status;
}

int main(int argc, char **argv)
{
    int first = options_parse(&command, argc, argv);
    if (first < 0)
        return command_failed(&command);
    if (first == argc)
        error(STATUS_USAGE, "no log is named (see 'moe-stat -h')");
    else if (loads + (plot != NULL) + (trace != NULL) + (claims.count > 0) + option_given("format") > 1)
        error(STATUS_USAGE, "--format, --loads, --plot, --trace and --check do not go together");
    else if ((plot || trace) && output)
        error(STATUS_USAGE, "--%s names its own file: --output does not go with it", plot ? "plot" : "trace");
    else {
        struct steplog log;
        struct loads l = {0};
        steplog_init(&log);
        int status =
            trace ? write_trace(argv + first, argc - first) : run(&log, &l, argv + first, argc - first);
        steplog_release(&log);
        loads_release(&l);
        free(claims.claim);
        if (status >= 0 && stdout_close() == 0)
            return status;
    }
    return command_failed(&command);
}

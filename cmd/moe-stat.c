/* SPDX-License-Identifier: MIT */
/* moe-stat: what a step log says. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/options.h"
#include "stat/check.h"
#include "stat/plot.h"
#include "stat/report.h"
#include "stat/steplog.h"
#include "stat/summary.h"

struct claims {
    struct claim {
        const char *text;
        struct check check;
    } * claim;
    int count;
};

static const char *format = "text", *output, *plot;
static int64_t skip;
static bool loads;
static struct claims claims;

static int take_check(const char *arg, void *value)
{
    struct claims *c = value;
    c->claim = xrealloc(c->claim, (size_t)c->count + 1, sizeof *c->claim);
    c->claim[c->count].text = arg;
    return check_parse(&c->claim[c->count++].check, arg);
}

static const struct opt opts[] = {
    {'f', "format", "FORMAT", "text, json or csv", OPT_CHOICE, &format, .choices = "text|json|csv"},
    {'s', "skip", "N", "leave the first N steps of the log out of throughput", OPT_INT, &skip, 0, 1e15},
    {'c', "check", "'FIGURE OP X'", "verdict on a figure: 1 if it does not hold", OPT_CALL, &claims,
     .call = take_check},
    {0, "loads", NULL, "the experts' loads over the log: a line a MoE layer", OPT_FLAG, &loads},
    {0, "plot", "FILE", "draw loss and speed, as FILE.png, FILE.svg or - (SVG)", OPT_TEXT, &plot},
    {'o', "output", "FILE", "write there instead of to stdout", OPT_TEXT, &output},
};

static const struct command command = {
    .name = "moe-stat",
    .synopsis = "moe-stat [-f FORMAT] [--skip N] [-o FILE] LOG...\n"
                "moe-stat --check 'FIGURE OP X' [--check ...] [--skip N] LOG...\n"
                "moe-stat --loads [-o FILE] LOG...\n"
                "moe-stat --plot FILE.png|FILE.svg|- [--skip N] LOG...",
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

/* Returns the status, or -1 with error() set. */
static int run(struct steplog *log, struct loads *l, char **logs, int count)
{
    struct summary s;
    struct output o;
    if (steplog_read(log, logs, count, 0) < 0 || loads_read(l, log, 0) < 0)
        return -1;
    if (summary_make(&s, log, l, skip, NULL) < 0)
        return error_prefix("%s", logs[count - 1]);
    if (plot)
        return plot_write(plot, log, &s);
    if (output_open(&o, output) < 0)
        return -1;
    int status = print_all(o.stream, log, l, &s);
    if (status < 0) {
        output_abandon(&o);
        return error_prefix("%s", logs[count - 1]);
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
    else if (loads + (plot != NULL) + (claims.count > 0) + option_given("format") > 1)
        error(STATUS_USAGE, "--format, --loads, --plot and --check do not go together");
    else if (plot && output)
        error(STATUS_USAGE, "--plot names its own file: --output does not go with it");
    else {
        struct steplog log;
        struct loads l = {0};
        steplog_init(&log);
        int status = run(&log, &l, argv + first, argc - first);
        steplog_release(&log);
        loads_release(&l);
        free(claims.claim);
        if (status >= 0 && stdout_close() == 0)
            return status;
    }
    return command_failed(&command);
}

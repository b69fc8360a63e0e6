/* SPDX-License-Identifier: MIT */
/* moe-stat: what a step log says. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"
#include "draw/pictures.h"
#include "model/load.h"
#include "plan/text.h"
#include "stat/beside.h"
#include "stat/check.h"
#include "stat/compare.h"
#include "stat/follow.h"
#include "stat/report.h"

struct checks {
    struct asked_check {
        const char *text;
        struct check check;
    } * claim;
    int count;
};

static const char *format = "text", *output, *plan_path, *model_path;
static struct pictures pictures = {.last = INT64_MAX};
static int64_t skip, threads, seq, last = 100;
static double every = 1;
static bool loads, experts, figures, compare, follow;
static struct checks claims;

static int take_check(const char *arg, void *value)
{
    struct checks *c = value;
    c->claim = xrealloc(c->claim, (size_t)c->count + 1, sizeof *c->claim);
    c->claim[c->count].text = arg;
    return check_parse(&c->claim[c->count++].check, arg);
}

static int take_skip(const char *arg, void *value)
{
    int64_t *n = value;
    if (strcmp(arg, "auto") == 0)
        *n = SKIP_WARMUP;
    else if (!parse_int(arg, 0, (int64_t)1e15, n))
        return error(STATUS_USAGE, "'%s' is neither a number of steps nor 'auto'", arg);
    return 0;
}

static const struct opt opts[] = {
    {'f', "format", "FORMAT", "text, json, csv, markdown or prom (Prometheus)", OPT_CHOICE, &format,
     .choices = "text|json|csv|markdown|prom"},
    {'s', "skip", "N", "leave the first N steps of the log out of throughput; auto: while they warm up",
     OPT_CALL, &skip, .choices = "auto", .call = take_skip},
    {'c', "check", "'FIGURE OP X'", "verdict on a figure: 1 if it does not hold", OPT_CALL, &claims,
     .call = take_check},
    {0, "compare", NULL, "two LOGs, A and B: 1 if B is slower beyond noise", OPT_FLAG, &compare},
    {'p', "plan", "PLAN", "what it predicts beside what was measured, worst first", OPT_TEXT, &plan_path},
    {'m', "model", "MODEL", "config.json, directory or preset: its FLOPs, for a log that has none", OPT_TEXT,
     &model_path, .presets = "models"},
    {0, "seq", "N", "tokens of a sequence, for a log that does not tell", OPT_INT, &seq, 1, INT32_MAX},
    {0, "experts", NULL, "how even the experts' loads are: a line a MoE layer", OPT_FLAG, &experts},
    {0, "loads", NULL, "the experts' loads over the log: a line a MoE layer", OPT_FLAG, &loads},
    {0, "follow", NULL, "a log that grows: its last steps, again and again", OPT_FLAG, &follow},
    {0, "last", "N", "with --follow: of how many steps (100)", OPT_INT, &last, 1, 10000},
    {0, "every", "S", "with --follow: at most once in so many seconds (1)", OPT_NUM, &every, 0, 1e6},
    {0, "plot", "FILE", "draw the run, as FILE.png, FILE.svg, or - for a terminal", OPT_TEXT, &pictures.plot},
    {0, "panels", "LIST", "with --plot: some of %s, separated by commas", OPT_CALL, &pictures,
     .call = pictures_panels, .words = &panel_words},
    {0, "html", "FILE", "the report and all panels on one page", OPT_TEXT, &pictures.html},
    {0, "trace", "FILE", "timelines (moe-train --timeline) as a trace for ui.perfetto.dev", OPT_TEXT,
     &pictures.trace},
    {0, "steps", "A-B", "of timelines these steps alone", OPT_CALL, &pictures, .call = pictures_steps},
    {0, "figures", NULL, "list all figures: name, unit, where it comes from, definition", OPT_FLAG, &figures},
    {'o', "output", "FILE", "write there instead of to stdout", OPT_TEXT, &output},
    {'t', "threads", "N", "how many read the log (one a processor)", OPT_INT, &threads, 1, 64},
};

static const struct command command = {
    .name = "moe-stat",
    .synopsis =
        "moe-stat [-f FORMAT] [--skip N|auto] [--model MODEL] [--seq N] [-o FILE] LOG...\n"
        "moe-stat --check 'FIGURE OP X' [--check ...] [--plan PLAN] [--skip N|auto] LOG...\n"
        "moe-stat --compare [-f text|json] [--skip N|auto] A B\n"
        "moe-stat --plan PLAN [-f text|json] [--skip N|auto] LOG...\n"
        "moe-stat --loads|--experts [-o FILE] LOG...\n"
        "moe-stat --follow [-f prom -o FILE] [--plan PLAN] [--last N] [--every S] LOG\n"
        "moe-stat --plot FILE.png|FILE.svg|- [--panels LIST] [--skip N|auto] [--steps A-B] LOG|TIMELINE...\n"
        "moe-stat --html FILE [--plan PLAN] [--skip N|auto] [--steps A-B] LOG... [TIMELINE...]\n"
        "moe-stat --trace FILE.json|- [--steps A-B] TIMELINE...\n"
        "moe-stat --figures",
    .about = "reports on a training run from its step log; several LOGs are one run in pieces, in order",
    OPTS(opts),
    .notes = "A LOG is a file, or '-': standard input.\n"
             "FIGURE is a name from --figures; OP is < <= > >= = (to the digits written) or ~ (within 10%).\n"
             "Exit status: 0 done, 1 a check does not hold or B is slower, 2 bad usage or input, 3 the "
             "environment failed.\n"
             "Example: moe-stat --skip 10 --check 'mfu > 0.4' --check 'dropped = 0' run.jsonl",
};

/* ---- one run ---- */

/* A line a claim; STATUS_NO when one of them does not hold. */
static int print_verdicts(FILE *f, const struct summary *s)
{
    int status = STATUS_DONE;
    for (int i = 0; i < claims.count; i++) {
        const struct asked_check *c = &claims.claim[i];
        bool holds = check_holds(&c->check, s);
        double value = figure_value(s, c->check.figure);
        fprintf(f, "%-4s %s: %s is ", holds ? "ok" : "FAIL", c->text, c->check.figure->name);
        fprintf(f, isnan(value) ? "unknown\n" : "%.6g\n", value);
        if (!holds)
            status = STATUS_NO;
    }
    return status;
}

static bool is(const char *wanted)
{
    return strcmp(format, wanted) == 0;
}

static int print_all(FILE *f, const struct report *r, const struct plan *plan)
{
    if (loads)
        return report_loads(f, r->loads);
    if (experts)
        return report_experts(f, r->loads);
    if (claims.count)
        return print_verdicts(f, &r->s);
    if (plan)
        beside_report(f, plan, &r->s, is("json") ? BESIDE_JSON : BESIDE_TEXT);
    else if (is("json"))
        report_json(f, r);
    else if (is("csv"))
        report_csv(f, r);
    else if (is("markdown"))
        report_markdown(f, r);
    else if (is("prom"))
        report_prom(f, r);
    else
        report_text(f, r);
    return STATUS_DONE;
}

/* Loads are long: they are read when something that is asked for needs them. */
static bool needs_loads(void)
{
    bool any = (!claims.count && !plan_path) || pictures.html;
    for (int i = 0; i < claims.count; i++)
        any |= figure_needs_loads(claims.claim[i].check.figure);
    return any;
}

/* What a log may not tell: of a plan, or of a model and options. */
struct background {
    struct plan plan;
    struct model model;
    bool has_plan, has_model;
    struct known_figures known;
    struct log_hint hint;
};

static int background_open(struct background *b)
{
    *b = (struct background){.known = {NAN, NAN, NAN}, .hint.seq = seq};
    if (plan_path) {
        TRY(plan_read(&b->plan, plan_path));
        b->has_plan = true;
        b->known = beside_known(&b->plan);
        b->hint = (struct log_hint){b->plan.batch.seq, b->plan.batch.global, b->plan.world};
    }
    if (model_path) {
        TRY(model_load(&b->model, model_path));
        b->has_model = true;
    }
    return 0;
}

static void background_close(struct background *b)
{
    if (b->has_plan)
        plan_release(&b->plan);
    if (b->has_model)
        model_release(&b->model);
}

/* Returns the status, or -1 with error() set. */
static int report(struct steplog *log, struct loads *l, const struct background *b, char **logs, int count,
                  int all)
{
    struct report r = {.log = log, .loads = l, .warmup = skip == SKIP_WARMUP};
    const struct plan *plan = b->has_plan ? &b->plan : NULL;
    struct output o;
    TRY(steplog_read(log, logs, count, (int)threads));
    if (b->has_model)
        summary_count_flops(log, &b->model);
    if (needs_loads())
        TRY(loads_read(l, log, (int)threads));
    if (summary_make(&r.s, log, l, skip, &b->known) < 0)
        return error_prefix("%s", logs[count - 1]);
    r.skip = summary_skipped(&r.s, skip);
    report_notices(&r);
    if (plan)
        beside_notices(plan, log);
    if (b->has_model && !(r.s.flops_per_token > 0))
        notice("the log does not tell how long a sequence is, on which FLOPs depend: --seq does");
    if (pictures.plot || pictures.html)
        return pictures_write(&pictures, &r, plan, plan_path, logs, count, all);
    TRY(output_open(&o, output));
    int status = print_all(o.stream, &r, plan);
    if (status < 0 || steplog_error(log) < 0) {
        output_abandon(&o);
        return error_prefix("%s", logs[count - 1]);
    }
    return output_commit(&o) < 0 ? -1 : status;
}

static int report_run(char **logs, int count)
{
    struct steplog log;
    struct loads l = {0};
    struct background b;
    int all = count;
    if (pictures.plot || pictures.html)
        count = pictures_sort(logs, all);
    if (!count)
        return pictures_write(&pictures, NULL, NULL, NULL, logs, 0, all);
    int status = background_open(&b);
    steplog_init(&log);
    log.hint = b.hint;
    if (status == 0)
        status = report(&log, &l, &b, logs, count, all);
    steplog_release(&log);
    loads_release(&l);
    background_close(&b);
    return status;
}

static int follow_run(const char *path)
{
    struct background b;
    int status = background_open(&b);
    const struct follow f = {.out = stdout,
                             .path = path,
                             .last = last,
                             .every_s = every,
                             .known = &b.known,
                             .model = b.has_model ? &b.model : NULL,
                             .hint = b.hint,
                             .prom = output,
                             .terminal = isatty(STDOUT_FILENO) == 1};
    if (status == 0)
        status = follow_log(&f);
    background_close(&b);
    return status;
}

/* ---- two runs ---- */

static int read_side(struct steplog *log, char *path, int64_t *from)
{
    struct report r = {.log = log};
    TRY(steplog_read(log, &path, 1, (int)threads));
    if (summary_make(&r.s, log, NULL, skip, NULL) < 0)
        return error_prefix("%s", path);
    *from = summary_skipped(&r.s, skip);
    report_notices(&r);
    return 0;
}

static int compare_logs(struct steplog side[static 2], char **paths)
{
    struct compare c;
    struct output o;
    int64_t from[2];
    TRY(read_side(&side[0], paths[0], &from[0]));
    TRY(read_side(&side[1], paths[1], &from[1]));
    TRY(compare_make(&c, &side[0], &side[1], from[0], from[1]));
    TRY(steplog_error(&side[0]));
    TRY(steplog_error(&side[1]));
    TRY(output_open(&o, output));
    if (is("json"))
        compare_json(o.stream, &c);
    else
        compare_text(o.stream, &c, paths[0], paths[1]);
    TRY(output_commit(&o));
    return compare_slower(&c) ? STATUS_NO : STATUS_DONE;
}

static int compare_runs(char **paths)
{
    struct steplog side[2];
    steplog_init(&side[0]);
    steplog_init(&side[1]);
    int status = compare_logs(side, paths);
    steplog_release(&side[0]);
    steplog_release(&side[1]);
    return status;
}

/* ---- the command ---- */

static int list_figures(void)
{
    static const char *const origin[] = {[MEASURED] = "log", [PREDICTED] = "plan", [BOTH] = "both"};
    struct output o;
    TRY(output_open(&o, output));
    for (int i = 0; i < FIGURES; i++)
        fprintf(o.stream, "%s\t%s\t%s\t%s\n", figure_table[i].name, unit_name[figure_table[i].unit],
                origin[figure_table[i].origin], figure_table[i].meaning);
    return output_commit(&o);
}

/* What does not go together. */
static int check_usage(int logs)
{
    bool form = option_given("format"), beside = plan_path && !claims.count && !pictures.html && !follow;
    bool plot = pictures.plot, html = pictures.html, trace = pictures.trace;
    if (loads + experts + compare + follow + figures + beside + plot + html + trace + (claims.count > 0) > 1)
        return error(STATUS_USAGE,
                     "one of --check, --compare, --plan, --loads, --experts, --follow, --plot, --html, --trace "
                     "and --figures at a time (but --check, --html and --follow may have a --plan)");
    if (form && (loads || experts || plot || html || trace || figures || claims.count))
        return error(
            STATUS_USAGE,
            "--format does not go with --loads, --experts, --plot, --html, --trace, --figures or --check");
    if ((compare || beside) && !is("text") && !is("json"))
        return error(STATUS_USAGE, "--compare and --plan have the formats text and json");
    if (follow && form && !(is("text") || (is("prom") && output)))
        return error(STATUS_USAGE, "--follow has the formats text, and prom with --output FILE");
    if (follow && (output != NULL) != is("prom"))
        return error(STATUS_USAGE, "--follow writes --output FILE with --format prom only");
    if (follow && skip)
        return error(STATUS_USAGE, "--follow has no --skip: its figures are of the last steps");
    if ((plot || html || trace) && output)
        return error(STATUS_USAGE,
                     "--plot, --html and --trace name their own file: --output does not go with them");
    if ((option_given("last") || option_given("every")) && !follow)
        return error(STATUS_USAGE, "--last and --every go with --follow");
    if (option_given("skip") && (loads || experts || trace || figures))
        return error(STATUS_USAGE, "--skip does not go with --loads, --experts, --trace and --figures");
    if (option_given("panels") && !plot)
        return error(STATUS_USAGE, "--panels goes with --plot");
    if (option_given("steps") && !(plot || html || trace))
        return error(STATUS_USAGE, "--steps goes with --plot, --html and --trace");
    if (plan_path && (model_path || seq))
        return error(STATUS_USAGE,
                     "--plan has a model and the length of a sequence: --model and --seq go without");
    if ((model_path || seq) && (compare || loads || experts || trace || figures))
        return error(STATUS_USAGE,
                     "--model and --seq do not go with --compare, --loads, --experts, --trace and --figures");
    if (figures && logs)
        return error(STATUS_USAGE, "--figures takes no log: it lists what there is");
    if (!figures && logs < 1)
        return error(STATUS_USAGE, "no log: name a file, or '-' for standard input (see 'moe-stat -h')");
    if (compare && logs != 2)
        return error(STATUS_USAGE, "--compare takes two logs, A and B, not %d", logs);
    if (follow && logs != 1)
        return error(STATUS_USAGE, "--follow takes one log, not %d", logs);
    return 0;
}

static int run(char **logs, int count)
{
    TRY(check_usage(count));
    if (figures)
        return list_figures();
    TRY(output_check(output));
    TRY(pictures_check(&pictures));
    if (compare)
        return compare_runs(logs);
    if (pictures.trace)
        return pictures_trace(&pictures, logs, count);
    return follow ? follow_run(logs[0]) : report_run(logs, count);
}

int main(int argc, char **argv)
{
    int first = options_parse(&command, argc, argv);
    if (first < 0)
        return command_failed(&command);
    int status = run(argv + first, argc - first);
    free(claims.claim);
    if (status >= 0 && stdout_close() == 0)
        return status;
    return command_failed(&command);
}

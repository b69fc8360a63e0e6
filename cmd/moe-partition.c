/* SPDX-License-Identifier: MIT */
/* moe-partition: a model and a cluster become a plan. */
#include "moe-partition.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"
#include "check/limits.h"
#include "check/runnable.h"
#include "choose/gap_report.h"
#include "choose/make.h"
#include "choose/search.h"
#include "choose/search_report.h"
#include "cost/communicators.h"
#include "cost/explain.h"
#include "cost/fit.h"
#include "emit/emit.h"
#include "plan/fields.h"
#include "plan/schedule.h"
#include "plan/text.h"

static struct request request = {.zero = -1};
static const char *out_path, *order;
const char *made_by;

static int set_capacity(const char *arg, void *value)
{
    double *x = value;
    *x = 0;
    if (strcmp(arg, "none") != 0 && !(parse_num(arg, 0, 1e6, x) && *x > 0))
        return error(STATUS_USAGE, "takes a number above 0 and to 1000000, or none, not '%s'", arg);
    return 0;
}

#define AXIS(name, what)                                                                                       \
    {                                                                                                          \
        0, #name, "N", what, OPT_INT, &request.axes.name, 1, 1 << 20                                           \
    }

static const struct opt plan_opts[] = {
    {'m', "model", "MODEL", "config.json, model directory or preset", OPT_TEXT, &request.model,
     .presets = "models"},
    {'c', "cluster", "CLUSTER", "cluster file or preset (local)", OPT_TEXT, &request.cluster,
     .presets = "clusters"},
    {'n', "world", "N", "ranks (the least the axes need)", OPT_INT, &request.world, 1, 1 << 20},
    {0, "strategy", "NAME", "%s", OPT_CHOICE, &request.strategy, .words = &strategy_words},
    {'o', "output", "FILE", "write the plan here (standard output)", OPT_TEXT, &out_path},
    {0, NULL, NULL, "Axes (those not given are derived, or 1):", OPT_FLAG},
    AXIS(tp, "tensor parallelism of the dense part"),
    AXIS(etp, "tensor parallelism of the experts"),
    AXIS(cp, "context parallelism"),
    AXIS(ep, "expert parallelism"),
    AXIS(dp, "data parallelism"),
    AXIS(pp, "pipeline parallelism"),
    AXIS(vpp, "virtual stages a pipeline rank"),
    {0, "order", "ORDER", "axes, fastest first (tp-cp-ep-dp-pp)", OPT_TEXT, &order},
    {0, "split", "LIST", "layers of each virtual stage, or auto (even)", OPT_TEXT, &request.split,
     .choices = "auto"},
    {0, NULL, NULL, "Run:", OPT_FLAG},
    {0, "seq", "N", "tokens a sequence (2048, or what the model allows)", OPT_INT, &request.batch.seq, 1,
     1 << 30},
    {0, "global-batch", "N", "sequences a step", OPT_INT, &request.batch.global, 1, 1e12},
    {0, "micro-batch", "N", "sequences a microbatch (1)", OPT_INT, &request.batch.micro, 1, 1 << 20},
    {0, "schedule", "NAME", "%s (1f1b; interleaved with vpp)", OPT_CHOICE, &request.schedule,
     .words = &schedule_words},
    {0, "recompute", "WHAT", "%s (none)", OPT_CHOICE, &request.recompute, .words = &recompute_words},
    {0, "precision", "TYPE", "%s (the config's)", OPT_CHOICE, &request.precision, .words = &precision_words},
    {0, "zero", "N", "optimizer sharding, 0 to 3 (1)", OPT_INT, &request.zero, 0, 3},
    {0, "capacity-factor", "X", "drop tokens beyond X times the mean, or none (none)", OPT_CALL,
     &request.routing.capacity, .choices = "none", .call = set_capacity},
    {0, "capacity-scope", "SCOPE", "what capacity counts the tokens of: %s (microbatch)", OPT_CHOICE,
     &request.scope, .words = &scope_words},
    {0, "drop", "BY", "drop by %s (prob)", OPT_CHOICE, &request.drop, .words = &drop_words},
    {0, "lambda", "X", "reserve memory for this skew of expert loads (1.5)", OPT_NUM, &request.routing.lambda,
     1, 1e6},
    {0, "overlap", "WHEN", "overlap communication: %s (off)", OPT_CHOICE, &request.overlap,
     .words = &flag_words},
    {0, "bucket-bytes", "N", "gradients summed at once (all; with overlap 32 MiB, or 1 MiB a replica)", OPT_INT,
     &request.bucket_bytes, 4, MAX_BUCKET_BYTES},
    {0, NULL, NULL, "For other trainers' jobs (moe-train runs the defaults only):", OPT_FLAG},
    {0, "dispatcher", "NAME", "%s (alltoall)", OPT_CHOICE, &request.dispatcher, .words = &dispatcher_words},
    {0, "grad-dtype", "TYPE", "gradients: %s (f32)", OPT_CHOICE, &request.grad_dtype, .words = &type_words},
    {0, "moment-dtype", "TYPE", "optimizer moments: %s (f32)", OPT_CHOICE, &request.moment_dtype,
     .words = &type_words},
};

static const struct verb verbs[];
static const struct command plan_command = {
    "moe-partition",
    "moe-partition [plan] -m MODEL [-c CLUSTER] [-n WORLD] [layout] [-o PLAN]\n"
    "moe-partition [plan] --strategy NAME [layout] [-o PLAN]\n"
    "moe-partition search -m MODEL -c CLUSTER -n WORLD [layout to hold fixed] [-o PLAN]\n"
    "moe-partition place LOADS -p PLAN [--slots R | --redundant X] [-o PLAN]\n"
    "moe-partition replan PLAN --lost WHAT [--drop-experts] [--global-batch N|auto] [-o PLAN]\n"
    "moe-partition emit FORM PLAN [-o FILE]\n"
    "moe-partition explain PLAN [-o FILE]",
    "make a plan for training a mixture-of-experts model in exactly this layout",
    OPTS(plan_opts),
    "'moe-partition VERB -h' tells of a verb.\n"
    "Exit status: 0 done, 2 bad usage, bad input or an illegal layout, 3 the environment failed.",
    verbs,
};

void warn_if_too_large(const struct plan *p)
{
    char needs[24], has[24], advice[400];
    if (plan_fits(p))
        return;
    fit_advice(p, p->predict.memory_rank, arena_room(p), advice);
    notice("the plan does not fit: rank %d needs %s, a rank has %s; %s", p->predict.memory_rank,
           human_bytes(needed_bytes(&p->predict), needs), human_bytes(p->machine.memory_bytes, has), advice);
}

static char *command_line(int argc, char **argv)
{
    char *text = xasprintf("moe-partition %s: moe-partition", VERSION);
    for (int i = 1; i < argc; i++) {
        char *longer = xasprintf("%s %s", text, argv[i]);
        free(text);
        text = longer;
    }
    return text;
}

int write_plan(const struct plan *p, const char *path, int (*write)(const struct plan *, FILE *))
{
    struct output o;
    if (output_open(&o, path) < 0)
        return -1;
    if (write(p, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

static int take_order(void)
{
    if (order && (!*order || strlen(order) >= sizeof request.axes.order))
        return error(STATUS_USAGE, "rule axes-order: order '%s' must name tp, cp, ep, dp and pp once each",
                     order);
    if (order)
        strcpy(request.axes.order, order);
    return 0;
}

static int run_plan(int argc, char **argv)
{
    int first = options_parse(&plan_command, argc, argv);
    if (first < 0)
        return -1;
    if (first < argc)
        return error(STATUS_USAGE, "no verb '%s': %s(see 'moe-partition -h')", argv[first],
                     verb_meant(verbs, argv[first]));
    TRY(take_order());
    request.made_by = made_by;
    struct plan p;
    if (plan_make(&p, &request) < 0)
        return -1;
    warn_if_too_large(&p);
    plan_remarks(&p);
    int r = write_plan(&p, out_path, plan_write);
    plan_release(&p);
    return r;
}

/* ---- search ---- */

static int64_t top = 10;
static bool as_json, any;
static const char *compare_path;

static const struct opt search_alone[] = {
    {0, NULL, NULL, "Search (what is given above is held fixed, all else of the layout searched):", OPT_FLAG},
    {0, "any", NULL, "write the best plan even if moe-train cannot run it", OPT_FLAG, &any},
    {0, "top", "N", "layouts to show (10)", OPT_INT, &top, 1, 1e6},
    {0, "json", NULL, "show them as JSON", OPT_FLAG, &as_json},
    {0, "compare", "PLAN", "show how far this plan is from the best layout of its job", OPT_TEXT,
     &compare_path},
};
enum {
    PLAN_OPTS = sizeof plan_opts / sizeof *plan_opts,
    SEARCH_ALONE = sizeof search_alone / sizeof *search_alone
};
static struct opt search_opts[PLAN_OPTS - 1 + SEARCH_ALONE]; /* plan's, then those: search_options() */

/* All of plan's but --strategy, which is a layout: --compare tells how good it is. */
static void search_options(void)
{
    int n = 0;
    for (int i = 0; i < PLAN_OPTS; i++)
        if (plan_opts[i].value != &request.strategy)
            search_opts[n++] = plan_opts[i];
    memcpy(search_opts + n, search_alone, sizeof search_alone);
}

static const struct command search_command = {
    "moe-partition search",
    "moe-partition search -m MODEL -c CLUSTER -n WORLD [layout to hold fixed] [--top N] [--json] [-o PLAN] "
    "[--any]\n"
    "moe-partition search --compare PLAN [layout to hold fixed] [--json] [--any]",
    "rank every legal layout of a job by its predicted step",
    OPTS(search_opts),
    "Exit status: 0 done, 2 bad usage, bad input, or nothing that fits, 3 the environment failed.",
};

/* The best leaf's plan; where moe-train cannot run it and is to, the best that it can. */
static int write_best(struct layout_search *s)
{
    struct layout_search runnable = {0};
    struct plan p;
    int r = search_plan(s, s->leaves, made_by, &p);
    if (r == 0 && !any && plan_within_limits(&p) < 0) {
        search_plan_release(&p);
        if (search_init(&runnable, &request) < 0 ||
            (runnable.only_runnable = true, search_run(&runnable)) < 0) {
            search_release(&runnable);
            return -1;
        }
        r = search_plan(&runnable, runnable.leaves, made_by, &p);
        if (r == 0 && plan_within_limits(&p) < 0)
            r = error_prefix("no layout of this job runs (--any writes the best plan)");
        else if (r == 0)
            notice("the best is for planning only: written is the best that moe-train runs (--any: the best)");
    }
    if (r == 0)
        r = write_plan(&p, out_path, plan_write);
    search_plan_release(&p);
    if (runnable.request.model)
        search_release(&runnable);
    return r;
}

static int report(const struct layout_search *s)
{
    struct output o;
    if (out_path && strcmp(out_path, "-") == 0) /* the plan goes there */
        return 0;
    TRY(output_open(&o, NULL));
    if ((as_json ? search_json : search_print)(s, top, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

/* What a plan's job is, is in the plan. */
static int check_compare(void)
{
    static const char *const of_job[] = {
        "model",        "cluster",         "world",          "seq",    "global-batch", "precision",
        "lambda",       "capacity-factor", "capacity-scope", "drop",   "dispatcher",   "overlap",
        "bucket-bytes", "grad-dtype",      "moment-dtype",   "output", "top"};
    for (size_t i = 0; i < sizeof of_job / sizeof *of_job; i++)
        if (option_given(of_job[i]))
            return error(STATUS_USAGE, "--%s does not go with --compare, which takes the job of the plan",
                         of_job[i]);
    return 0;
}

static int compare(void)
{
    struct plan p;
    struct gap g;
    struct output o;
    TRY(check_compare());
    if (plan_read(&p, compare_path) < 0)
        return -1;
    request.like = &p;
    int r = gap_find(&g, &request, any);
    if (r == 0)
        r = output_open(&o, NULL);
    if (r == 0 && (as_json ? gap_json : gap_print)(&g, o.stream) < 0) {
        output_abandon(&o);
        r = -1;
    } else if (r == 0)
        r = output_commit(&o);
    gap_release(&g);
    plan_release(&p);
    return r;
}

static int run_search(int argc, char **argv)
{
    search_options();
    int first = options_parse(&search_command, argc, argv);
    if (first < 0)
        return -1;
    if (first < argc)
        return error(STATUS_USAGE, "takes no '%s' (see 'moe-partition search -h')", argv[first]);
    TRY(take_order());
    if (compare_path)
        return compare();
    TRY(output_check(out_path));
    if (request.world && request.batch.global == 0)
        notice("the global batch is taken as 4 sequences a rank, %lld (--global-batch)",
               (long long)(4 * request.world));
    struct layout_search s;
    int r = search_init(&s, &request);
    if (r == 0)
        r = search_run(&s);
    if (r == 0)
        r = report(&s);
    if (r == 0 && out_path)
        r = write_best(&s);
    search_release(&s);
    return r;
}

static const struct opt emit_opts[] = {
    {'o', "output", "FILE", "write here (standard output)", OPT_TEXT, &out_path},
};

static const struct command emit_command = {
    "moe-partition emit",
    "moe-partition emit FORM PLAN [-o FILE]",
    "show a plan in another tool's form",
    OPTS(emit_opts),
    "Exit status: 0 done, 2 bad usage, bad input, or a layout that the tool cannot have, 3 the environment "
    "failed.",
    .operand = "FORM",
    .operands = &emitter_words,
};

static int run_emit(int argc, char **argv)
{
    char list[200];
    int first = options_parse(&emit_command, argc, argv);
    if (first < 0)
        return -1;
    words_text(&emitter_words, list, sizeof list);
    if (argc - first != 2)
        return error(STATUS_USAGE, "takes a form and a plan: FORM is %s (see 'moe-partition emit -h')", list);
    int form = word_index(&emitter_words, argv[first]);
    if (form < 0)
        return error(STATUS_USAGE, "no form '%s'; there is %s", argv[first], list);
    struct plan p;
    if (plan_read(&p, argv[first + 1]) < 0)
        return -1;
    int r = write_plan(&p, out_path, emitters[form].write);
    plan_release(&p);
    return r;
}

static const struct command explain_command = {
    "moe-partition explain",
    "moe-partition explain PLAN [-o FILE]",
    "say in a page where a plan's memory and time go",
    OPTS(emit_opts),
    "Exit status: 0 done, 2 bad usage or bad input, 3 the environment failed.",
};

static int run_explain(int argc, char **argv)
{
    int first = options_parse(&explain_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "takes a plan (see 'moe-partition explain -h')");
    struct plan p;
    if (plan_read(&p, argv[first]) < 0)
        return -1;
    int r = write_plan(&p, out_path, plan_explain);
    plan_release(&p);
    return r;
}

static const struct verb verbs[] = {
    {"plan", run_plan, &plan_command}, /* need not be said */
    {"search", run_search, &search_command},    {"place", run_place, &place_command},
    {"replan", run_replan, &replan_command},    {"emit", run_emit, &emit_command},
    {"explain", run_explain, &explain_command}, {0},
};
static const struct words verb_words = WORDS(verbs);

int main(int argc, char **argv)
{
    int known = argc > 1 ? word_index(&verb_words, argv[1]) : -1;
    const struct verb *verb = &verbs[known < 0 ? 0 : known];
    char *line = command_line(argc, argv);
    made_by = line;
    int r = verb->run(argc - (known >= 0), argv + (known >= 0));
    free(line);
    return r < 0 || stdout_close() < 0 ? command_failed(verb->command) : r;
}

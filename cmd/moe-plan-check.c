/* SPDX-License-Identifier: MIT */
/* moe-plan-check: the verdict on plans. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/options.h"
#include "check/check.h"
#include "check/runnable.h"
#include "check/seal.h"
#include "claim/report.h"
#include "cost/cluster.h"
#include "cost/diagram.h"
#include "cost/predict.h"
#include "draw/diagram.h"
#include "plan/text.h"
#include "stat/beside.h"

static const char *cluster, *seal_path, *simulate_path, *svg_path, *claims_path, *log_path;
static int64_t save_every;
static bool as_json, as_tap, list_rules;

static const struct opt opts[] = {
    {'c', "cluster", "CLUSTER", "check against this cluster, not the plan's", OPT_TEXT, &cluster,
     .presets = "clusters"},
    {0, "save-every", "N", "judge a save every N steps by rule save-interval", OPT_INT, &save_every, 1, 1e12},
    {'j', "json", NULL, "one JSON object a plan", OPT_FLAG, &as_json},
    {0, "tap", NULL, "TAP, for prove", OPT_FLAG, &as_tap},
    {0, "rules", NULL, "list the rules and what each proves", OPT_FLAG, &list_rules},
    {0, "seal", "PLAN", "check an edited plan, then write its predictions and sum anew", OPT_TEXT, &seal_path},
    {0, "claims", "FILE", "judge the claims in this file (or a list's name) against the plan", OPT_TEXT,
     &claims_path, .presets = "claims"},
    {0, "log", "STEPLOG", "and against what this log of a run of it measured", OPT_TEXT, &log_path},
    {0, "simulate", "PLAN", "draw the schedule over time", OPT_TEXT, &simulate_path},
    {0, "svg", "FILE", "with --simulate: draw a picture, too; '-' is standard output, for it alone", OPT_TEXT,
     &svg_path},
};

static const struct command command = {
    "moe-plan-check",
    "moe-plan-check [-c CLUSTER] [--save-every N] [--json|--tap] PLAN...\n"
    "moe-plan-check --rules\n"
    "moe-plan-check --seal PLAN\n"
    "moe-plan-check --simulate PLAN [--svg FILE]\n"
    "moe-plan-check --claims FILE [-c CLUSTER] [--log STEPLOG] [--json|--tap] PLAN",
    "say whether plans are legal, complete, free of deadlock and fit in memory",
    OPTS(opts),
    "PLAN is a file, or '-': standard input.\n"
    "Exit status: 0 no rule fails, no claim is refuted or contradicted, 1 one is, 2 a plan cannot be read, 3 "
    "the environment failed.",
};

static const char *const verdict_name[] = {"ok", "warn", "FAIL"};

/* With -q no more than what fails. */
static void print_text(const struct findings *f)
{
    for (int i = 0; i < f->count; i++)
        if (!is_quiet() || f->list[i].verdict == VERDICT_FAIL)
            printf("%s %s: %s\n", verdict_name[f->list[i].verdict], f->list[i].rule, f->list[i].text);
}

static void print_tap(const struct findings *f, const char *path, int *number)
{
    for (int i = 0; i < f->count; i++) {
        const struct finding *x = &f->list[i];
        bool fail = x->verdict == VERDICT_FAIL;
        printf("%s %d - %s%s: %s\n", fail ? "not ok" : "ok", ++*number,
               x->verdict == VERDICT_WARN ? "warn " : "", x->rule, x->text);
        if (fail)
            printf("# %s: %s\n", path, x->rule);
    }
}

static void print_json(const struct findings *f, const char *path)
{
    json_t *list = json_array();
    for (int i = 0; i < f->count; i++) {
        const struct finding *x = &f->list[i];
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "verdict", verdict_name[x->verdict], "rule",
                                              x->rule, "text", json_bytes(x->text)));
    }
    json_t *all = json_pack("{s:o,s:b,s:i,s:i,s:o}", "plan", json_bytes(path), "ok", f->fails == 0, "fails",
                            f->fails, "warns", f->warns, "findings", list);
    json_dumpf(all, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(all);
}

/* The plan on another cluster; where its own predictions are right they are made anew. */
static int move_to(struct plan *p, const char *where)
{
    struct findings f;
    struct machine m;
    TRY(cluster_load(&m, where, p->world));
    plan_prove(p, &f);
    bool right = true;
    for (int i = 0; i < f.count; i++)
        right = right && (f.list[i].verdict != VERDICT_FAIL || strcmp(f.list[i].rule, "memory-fits") == 0);
    findings_release(&f);
    p->machine = m;
    return right ? plan_predict(p) : 0;
}

/* 0, 1 when a rule fails, -1 when the plan cannot be read. */
static int check_one(const char *path, bool several, int *number)
{
    struct plan p;
    struct findings f;
    if (plan_read(&p, path) < 0)
        return -1;
    if (cluster && move_to(&p, cluster) < 0) {
        plan_release(&p);
        return -1;
    }
    p.save_every = save_every;
    plan_check(&p, &f);
    if (several && !as_json && (as_tap || !is_quiet() || f.fails))
        printf("# %s\n", path);
    if (as_json)
        print_json(&f, path);
    else if (as_tap)
        print_tap(&f, path, number);
    else
        print_text(&f);
    int r = f.fails > 0;
    findings_release(&f);
    plan_release(&p);
    return r;
}

static int check_all(char **paths, int count)
{
    int worst = 0, number = 0;
    if (count == 0)
        return error(STATUS_USAGE, "no plan: name a file, or '-' for standard input (see 'moe-plan-check -h')");
    int rules = 0;
    while (rule_at(rules))
        rules++;
    if (as_tap)
        printf("1..%d\n", count * rules);
    for (int i = 0; i < count; i++) {
        int r = check_one(paths[i], count > 1, &number);
        if (r < 0)
            return -1;
        worst |= r;
    }
    return worst;
}

static int show_rules(void)
{
    const struct rule *r;
    for (int i = 0; (r = rule_at(i)); i++)
        printf("%-24s %s\n", r->id, r->proves);
    return 0;
}

static int seal(void)
{
    struct findings f;
    int r = plan_seal(seal_path, &f);
    for (int i = 0; i < f.count; i++)
        if (f.list[i].verdict == VERDICT_FAIL)
            fprintf(strcmp(seal_path, "-") == 0 ? stderr : stdout, "FAIL %s: %s\n", f.list[i].rule,
                    f.list[i].text);
    findings_release(&f);
    return r;
}

static int simulate(void)
{
    struct plan p;
    TRY(output_check(svg_path));
    if (plan_read(&p, simulate_path) < 0)
        return -1;
    bool text = !svg_path || strcmp(svg_path, "-") != 0;
    int r = text ? plan_diagram(&p, stdout) : 0;
    if (r == 0 && svg_path)
        r = diagram_write(&p, svg_path);
    plan_release(&p);
    return r;
}

/* ---- claims ---- */

/* The figures of a run of this plan. */
static int measure(struct summary *s, const struct plan *p)
{
    struct steplog log;
    struct loads loads = {0};
    struct known_figures known = beside_known(p);
    char *path = (char *)log_path;
    steplog_init(&log);
    log.hint.seq = p->batch.seq;
    log.hint.global_batch = p->batch.global;
    log.hint.world = p->world;
    int r = steplog_read(&log, &path, 1, 0);
    if (r == 0)
        r = loads_read(&loads, &log, 0);
    if (r == 0)
        r = summary_make(s, &log, &loads, 0, &known) < 0 ? error_prefix("%s", log_path) : steplog_error(&log);
    if (r == 0)
        beside_notices(p, &log);
    steplog_release(&log);
    loads_release(&loads);
    return r;
}

static int report_claims(const struct claims *c, const struct plan *p)
{
    struct summary measured;
    struct agreement a;
    if (log_path)
        TRY(measure(&measured, p));
    struct judged *judged = xcalloc((size_t)c->count, sizeof *judged);
    claims_judge(c, p, log_path ? &measured : NULL, judged);
    int r = claims_agree(&a, c, p);
    if (r == 0) {
        struct lengths lengths;
        claims_by_length(&lengths, c, p);
        const struct claims_report report = {c, judged, &a, &lengths, p};
        (as_json ? claims_json : as_tap ? claims_tap : claims_print)(&report, stdout);
        r = claims_wrong(&report) > 0;
        agreement_release(&a);
        lengths_release(&lengths);
    }
    free(judged);
    return r;
}

/* The plan on the cluster that is asked about, its predictions made anew. */
static int prepare(struct plan *p)
{
    const struct rule *rule;
    char text[400];
    if (cluster)
        TRY(cluster_load(&p->machine, cluster, p->world));
    for (int i = 0; cluster && (rule = rule_at(i)); i++)
        if (strcmp(rule->id, "nodes-fit") == 0 && rule->check(p, text) == VERDICT_FAIL)
            return error(STATUS_USAGE, "the plan does not go on cluster '%s': %s", cluster, text);
    TRY(plan_sound(p));
    return plan_predict(p);
}

static int judge(char **paths, int count)
{
    struct plan p;
    struct claims c;
    if (count != 1)
        return error(STATUS_USAGE, "--claims takes one plan (see 'moe-plan-check -h')");
    TRY(claims_read(&c, claims_path));
    if (plan_read(&p, paths[0]) < 0) {
        claims_release(&c);
        return -1;
    }
    int r = prepare(&p);
    if (r == 0)
        r = report_claims(&c, &p);
    claims_release(&c);
    plan_release(&p);
    return r;
}

/* Whether each option that is given means something beside the others. */
static int check_options(bool plans)
{
    bool other = list_rules || seal_path || simulate_path; /* than a verdict on plans */
    if (list_rules + (seal_path != NULL) + (simulate_path != NULL) + plans > 1)
        return error(STATUS_USAGE, "one of --rules, --seal, --simulate or plans at a time");
    if (claims_path && other)
        return error(STATUS_USAGE, "--claims goes with a plan");
    if (svg_path && !simulate_path)
        return error(STATUS_USAGE, "--svg goes with --simulate");
    if (log_path && !claims_path)
        return error(STATUS_USAGE, "--log goes with --claims");
    const struct {
        const char *name;
        bool given;
    } verdicts[] = {{"cluster", cluster}, {"save-every", save_every}, {"json", as_json}, {"tap", as_tap}};
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts && other; i++)
        if (verdicts[i].given)
            return error(STATUS_USAGE, "--%s goes with verdicts, not with --%s", verdicts[i].name,
                         list_rules  ? "rules"
                         : seal_path ? "seal"
                                     : "simulate");
    if (save_every && claims_path)
        return error(STATUS_USAGE, "--save-every goes with rules, not with --claims");
    if (as_json && as_tap)
        return error(STATUS_USAGE, "--json and --tap are one too many");
    return 0;
}

int main(int argc, char **argv)
{
    int first = options_parse(&command, argc, argv), r;
    if (first < 0 || check_options(first < argc) < 0)
        return command_failed(&command);
    r = claims_path     ? judge(argv + first, argc - first)
        : list_rules    ? show_rules()
        : seal_path     ? seal()
        : simulate_path ? simulate()
                        : check_all(argv + first, argc - first);
    if (r < 0 || stdout_close() < 0)
        return command_failed(&command);
    return r ? STATUS_NO : STATUS_DONE;
}

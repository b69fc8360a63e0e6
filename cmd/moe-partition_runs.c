/* SPDX-License-Identifier: MIT */
/* The verbs of moe-partition that begin with a plan and what a run has shown: place and replan. */
#include "moe-partition.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"
#include "check/runnable.h"
#include "choose/place_report.h"
#include "choose/replan_report.h"
#include "model/load_table.h"
#include "plan/text.h"

static const char *out_path;

/* ---- place ---- */

static const char *plan_path, *placement;
static int64_t slots, redundant;
static struct fleet fleet = {.groups = 1, .nodes = 1};
static bool as_map;

static const struct opt place_opts[] = {
    {'p', "plan", "PLAN", "the plan whose experts are placed", OPT_TEXT, &plan_path},
    {'o', "output", "FILE", "write the placed plan, or the map, here", OPT_TEXT, &out_path},
    {0, "by", "PLACEMENT", "%s (greedy; hierarchical with replicas)", OPT_CHOICE, &placement,
     .words = &placement_words},
    {0, "slots", "R", "slots of a layer, over all ep ranks: experts and replicas", OPT_INT, &slots, 1, 1 << 20},
    {0, "redundant", "X", "replicas of a layer, besides the experts", OPT_INT, &redundant, 0, 1 << 20},
    {0, NULL, NULL, "Without a plan:", OPT_FLAG},
    {0, "map", NULL, "show the expert in each slot, a line a layer", OPT_FLAG, &as_map},
    {0, "groups", "G", "groups of experts that stay on one node (1)", OPT_INT, &fleet.groups, 1, 1 << 20},
    {0, "nodes", "N", "nodes (1)", OPT_INT, &fleet.nodes, 1, 1 << 20},
    {0, "gpus", "D", "devices, over all nodes", OPT_INT, &fleet.devices, 1, 1 << 20},
};

const struct command place_command = {
    "moe-partition place",
    "moe-partition place LOADS -p PLAN [--by PLACEMENT] [--slots R | --redundant X] [-o PLAN]\n"
    "moe-partition place LOADS --map [--slots R | --redundant X] [--groups G] [--nodes N] --gpus D [-o FILE]",
    "place experts by their measured loads",
    OPTS(place_opts),
    "LOADS: a line a MoE layer, a number an expert, as 'moe-stat --loads' prints them.\n"
    "Exit status: 0 done, 2 bad usage or bad input, 3 the environment failed.",
};

static int64_t slots_wanted(int64_t experts)
{
    return option_given("slots") ? slots : experts + redundant;
}

static int show_map(const struct load_table *t)
{
    struct output o;
    fleet.slots = slots_wanted(t->experts);
    TRY(balancer_takes(&fleet, t->experts));
    TRY(output_open(&o, out_path));
    if (place_map(t, &fleet, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

static int show_placements(const struct plan *p, const struct load_table *t, const struct fleet *f,
                           enum placement how)
{
    struct output o;
    if (out_path && strcmp(out_path, "-") == 0) /* the plan goes there */
        return 0;
    TRY(output_open(&o, NULL));
    if (place_report(p, t, f, how, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

static int place_plan(struct plan *p, const struct load_table *t, const char *loads)
{
    TRY(load_table_fits(t, &p->model, loads));
    TRY(load_table_routed(t, loads));
    TRY(plan_valid(p, STATUS_USAGE));
    struct fleet f = fleet_of(p, slots_wanted(p->model.experts));
    enum placement how = placement                    ? (enum placement)word_index(&placement_words, placement)
                         : f.slots > p->model.experts ? PLACE_HIERARCHICAL
                                                      : PLACE_GREEDY;
    TRY(place_takes(how, &f, p->model.experts));
    TRY(show_placements(p, t, &f, how));
    if (!out_path)
        return 0;
    TRY(place_experts(p, t, how, &f));
    free(p->made_by);
    p->made_by = xstrdup(made_by);
    plan_remarks(p);
    return write_plan(p, out_path, plan_write);
}

int run_place(int argc, char **argv)
{
    int first = options_parse(&place_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "takes one file of loads (see 'moe-partition place -h')");
    if (option_given("slots") && option_given("redundant"))
        return error(STATUS_USAGE, "--slots and --redundant say the same: give one");
    bool of_map = option_given("groups") || option_given("nodes") || option_given("gpus");
    if (as_map ? plan_path || placement || !fleet.devices : !plan_path || of_map)
        return error(STATUS_USAGE, "takes a plan (-p), or --map with --gpus (see 'moe-partition place -h')");
    struct load_table t;
    struct plan p = {0};
    int r = load_table_read(&t, argv[first]);
    if (r == 0 && as_map)
        r = load_table_routed(&t, argv[first]) < 0 ? -1 : show_map(&t);
    else if (r == 0)
        r = plan_read(&p, plan_path) < 0 ? -1 : place_plan(&p, &t, argv[first]);
    plan_release(&p);
    load_table_release(&t);
    return r;
}

/* ---- replan ---- */

static const char *lost_what, *hosts_path, *places_path, *new_places_path, *loads_path, *batch_asked;
static bool keep_experts, drop_experts;

static const struct opt replan_opts[] = {
    {0, "lost", "WHAT", "ranks 5,17-19, host:NAME, or @FILE: a step log or moe-train --health", OPT_TEXT,
     &lost_what},
    {0, "hosts", "FILE", "the host of each of the plan's nodes, a line each", OPT_TEXT, &hosts_path},
    {0, "places", "FILE", "instead of --hosts: host and number there of each rank, a line each", OPT_TEXT,
     &places_path},
    {0, "new-places", "FILE", "where each rank of the new plan is goes here", OPT_TEXT, &new_places_path},
    {0, "keep-experts", NULL, "keep all experts (the default)", OPT_FLAG, &keep_experts},
    {0, "drop-experts", NULL, "drop those that lost ranks hold, and as many of the other layers", OPT_FLAG,
     &drop_experts},
    {0, "loads", "FILE", "with --drop-experts: of the other layers the least loaded", OPT_TEXT, &loads_path},
    {0, "global-batch", "N", "sequences a step, or auto: the nearest legal number (as it was)", OPT_TEXT,
     &batch_asked, .choices = "auto"},
    {'o', "output", "FILE", "write the plan here", OPT_TEXT, &out_path},
};

const struct command replan_command = {
    "moe-partition replan",
    "moe-partition replan PLAN --lost WHAT [--hosts FILE | --places FILE] [--new-places FILE] "
    "[--keep-experts | --drop-experts [--loads FILE]] [--global-batch N|auto] [-o PLAN]",
    "make a plan for what a loss has left",
    OPTS(replan_opts),
    "Exit status: 0 done, also where by a report of health nothing of the plan is lost; 2 bad usage, bad "
    "input, "
    "or nothing that is left fits; 3 the environment failed.",
};

static int show_replan(const struct replan_request *r, const struct replanned *n)
{
    struct output o;
    if (out_path && strcmp(out_path, "-") == 0) /* the plan goes there */
        return 0;
    TRY(output_open(&o, NULL));
    if (replan_report(r, n, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

static int write_places(const struct rank_places *s, const int *was, int ranks)
{
    struct output o;
    if (!new_places_path)
        return 0;
    TRY(output_open(&o, new_places_path));
    places_write(s, was, ranks, o.stream);
    return output_commit(&o);
}

/* By a report of health: nothing is lost, or spare hosts have taken its place. */
static int keep_plan(const struct plan *old, const struct rank_places *s)
{
    if (!out_path || strcmp(out_path, "-") != 0)
        printf("lost          nothing: the plan stays as it is\n");
    TRY(write_places(s, NULL, old->world));
    return out_path ? write_plan(old, out_path, plan_write) : 0;
}

static int replan(const struct replan_request *r, const struct rank_places *s)
{
    struct replanned n;
    if (r->lost->count == 0)
        return keep_plan(r->old, s);
    TRY(plan_replan(&n, r));
    if (n.unplaced)
        notice("the plan's placement of experts does not go along: ep is %lld, and was %lld; experts lie in "
               "order now "
               "(moe-partition place makes another)",
               (long long)n.p.axes.ep, (long long)r->old->axes.ep);
    int rc = show_replan(r, &n);
    if (rc == 0)
        rc = write_places(s, n.was, n.p.world);
    if (rc == 0 && out_path) {
        warn_if_too_large(&n.p);
        plan_remarks(&n.p);
        rc = write_plan(&n.p, out_path, plan_write);
    }
    replanned_release(&n);
    return rc;
}

static int take_replan(struct replan_request *r)
{
    if (!lost_what)
        return error(STATUS_USAGE, "takes --lost, what is gone (see 'moe-partition replan -h')");
    if (keep_experts && drop_experts)
        return error(STATUS_USAGE, "--keep-experts and --drop-experts exclude each other");
    if (loads_path && !drop_experts)
        return error(STATUS_USAGE, "--loads goes with --drop-experts");
    if (hosts_path && places_path)
        return error(STATUS_USAGE, "--hosts and --places exclude each other");
    r->drop = drop_experts;
    r->loads = loads_path;
    if (batch_asked && strcmp(batch_asked, "auto") == 0)
        r->global = BATCH_NEAREST;
    else if (batch_asked && !parse_int(batch_asked, 1, 1e12, &r->global))
        return error(STATUS_USAGE, "--global-batch takes a number of sequences or auto, not '%s'", batch_asked);
    return 0;
}

int run_replan(int argc, char **argv)
{
    int first = options_parse(&replan_command, argc, argv);
    if (first < 0)
        return -1;
    if (argc - first != 1)
        return error(STATUS_USAGE, "takes a plan (see 'moe-partition replan -h')");
    struct plan old;
    struct lost lost = {0};
    struct rank_places places = {0};
    struct replan_request r = {.old = &old, .lost = &lost, .made_by = made_by};
    TRY(take_replan(&r));
    TRY(output_check(new_places_path));
    TRY(output_check(out_path));
    TRY(plan_read(&old, argv[first]));
    int rc = plan_valid(&old, STATUS_USAGE);
    if (rc == 0 && (places_path || hosts_path))
        rc = places_path ? places_read(&places, places_path, old.world)
                         : places_of_nodes(&places, hosts_path, &old);
    if (rc == 0)
        rc = lost_parse(&lost, &old, lost_what, places.of || new_places_path ? &places : NULL);
    if (rc == 0 && new_places_path && !places.of)
        rc = error(STATUS_USAGE, "--new-places: where ranks are is not known: give --places or --hosts");
    if (rc == 0)
        rc = replan(&r, &places);
    places_release(&places);
    lost_release(&lost);
    plan_release(&old);
    return rc;
}

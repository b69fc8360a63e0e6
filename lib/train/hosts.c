/* SPDX-License-Identifier: MIT */
#include "train/hosts.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/notice.h"
#include "comm/host.h"

/* Ranks a node, when all nodes have as many, in order; else 0. */
static int ranks_a_node(const struct plan *p)
{
    int each = 0;
    while (each < p->world && p->ranks[each].node == 0)
        each++;
    for (int r = 0; r < p->world && each; r++)
        if (p->ranks[r].node != r / each)
            return 0;
    return each && p->world % each == 0 ? each : 0;
}

const char *hosts_launch(const struct plan *p, char text[static HOSTS_LAUNCH])
{
    int each = ranks_a_node(p);
    bool slurm = launcher_kind() == LAUNCHER_SRUN;
    if (!each)
        snprintf(text, HOSTS_LAUNCH, "%s, which puts each rank on the plan's node",
                 slurm ? "srun -m arbitrary (moe-partition emit slurm)"
                       : "mpirun --rankfile (moe-partition emit rankfile)");
    else if (slurm)
        snprintf(text, HOSTS_LAUNCH, "srun -N %d --ntasks-per-node=%d -m block", p->world / each, each);
    else if (each == p->world)
        snprintf(text, HOSTS_LAUNCH, "mpirun -n %d", p->world);
    else
        snprintf(text, HOSTS_LAUNCH, "mpirun -n %d --map-by ppr:%d:node", p->world, each);
    return text;
}

/* Whether this rank is the lowest of those in the group that are on its host: so each host counts once. */
static bool stands_for_host(const struct comm *c, const struct plan *p, const struct plan_group *g)
{
    const int *here = comm_local_list(c);
    for (int i = 0; here[i] != comm_rank(c); i++)
        if (plan_group_of(p, g->kind, here[i]) == g)
            return false;
    return true;
}

/* What ranks find: groups on too many hosts, and the first of them. */
struct spread {
    int64_t hosts, groups;
    int64_t first, have,
        planned; /* index in the plan's groups, -1: none; its hosts, and those it should have */
};

static void take_first(struct spread *s, const struct spread *t)
{
    if (t->first < 0 || (s->first >= 0 && s->first <= t->first))
        return;
    s->first = t->first;
    s->have = t->have;
    s->planned = t->planned;
}

static void add_hosts(void *into, const void *from, size_t bytes)
{
    struct spread *s = into;
    const struct spread *t = from;
    s->hosts += t->hosts;
    s->groups += t->groups;
    take_first(s, t);
}

/* Counts the hosts of one group. The verdict comes to its first rank. */
static int count_hosts(struct comm *c, const struct plan *p, const struct plan_group *g, struct spread *found)
{
    struct group *group = comm_group(c, group_name[g->kind], g->ranks, g->size);
    struct spread s = {.hosts = stands_for_host(c, p, g), .first = -1};
    int r = group ? host_reduce(group, &s, sizeof s, add_hosts) : -1;
    comm_group_free(group);
    if (r < 0 || g->ranks[0] != comm_rank(c))
        return r;
    int planned = plan_group_nodes(p, g);
    if (s.hosts > planned) {
        struct spread one = {.first = g - p->groups, .have = s.hosts, .planned = planned};
        found->groups++;
        take_first(found, &one);
    }
    return 0;
}

/* Of everyone's findings on the first rank. */
static int judge(const struct plan *p, const struct spread *s, bool warn)
{
    char text[160], more[40] = "", launch[HOSTS_LAUNCH];
    if (s->groups == 0)
        return 0;
    const struct plan_group *g = &p->groups[s->first];
    if (s->groups > 1)
        snprintf(more, sizeof more, " (and so for %lld more)", (long long)s->groups - 1);
    snprintf(text, sizeof text, "group %s %d is on %lld hosts, the plan says %lld%s", group_name[g->kind],
             g->index, (long long)s->have, (long long)s->planned, more);
    if (!warn)
        return error(STATUS_USAGE, "%s: start it with %s, or --placement warn", text, hosts_launch(p, launch));
    notice("%s", text);
    return 0;
}

int hosts_check(struct comm *c, const struct plan *p, bool warn, int *hosts)
{
    *hosts = 1;
    if (comm_local_ranks(c) == comm_size(c))
        return 0; /* the same on all */
    struct spread all = {.hosts = comm_local_rank(c) == 0, .first = -1};
    for (int kind = 0; kind < GROUP_KINDS; kind++) {
        const struct plan_group *g = plan_group_of(p, kind, comm_rank(c));
        if (g && g->size > 1)
            TRY(count_hosts(c, p, g, &all));
    }
    TRY(host_reduce(comm_world(c), &all, sizeof all, add_hosts));
    if (comm_rank(c) > 0)
        return 0;
    *hosts = (int)all.hosts;
    return judge(p, &all, warn);
}

/* SPDX-License-Identifier: MIT */
#include "train/hosts.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "comm/host.h"

static int64_t env_number(const char *name)
{
    const char *s = getenv(name);
    int64_t v;
    return s && parse_int(s, 1, 1 << 20, &v) ? v : 0;
}

int hosts_processors(void)
{
    cpu_set_t set;
    int64_t online = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t mine = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : online;
    int64_t ranks = max64(env_number("OMPI_COMM_WORLD_LOCAL_SIZE"), env_number("MPI_LOCALNRANKS"));
    if (mine < online || ranks == 0)
        return (int)mine; /* bound by the launcher: these are ours */
    return (int)max64(1, mine / ranks);
}

int hosts_threads(int64_t wanted, int processors)
{
    if (wanted || (wanted = env_number("OMP_NUM_THREADS")))
        return (int)wanted;
    return processors;
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
    char text[160], more[40] = "";
    if (s->groups == 0)
        return 0;
    const struct plan_group *g = &p->groups[s->first];
    if (s->groups > 1)
        snprintf(more, sizeof more, " (and so for %lld more)", (long long)s->groups - 1);
    snprintf(text, sizeof text, "group %s %d is on %lld hosts, the plan says %lld%s", group_name[g->kind],
             g->index, (long long)s->have, (long long)s->planned, more);
    if (!warn)
        return error(STATUS_USAGE, "%s: launch so that rank R is on node R's host, or --placement warn", text);
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

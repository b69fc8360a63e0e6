/* SPDX-License-Identifier: MIT */
#include "train/hosts.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/process.h"

enum { NAME = HOST_NAME };

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

static int distinct(const int *ids, const int *ranks, int count)
{
    int n = 0;
    for (int i = 0; i < count; i++) {
        int seen = 0;
        for (int j = 0; j < i && !seen; j++)
            seen = ids[ranks[j]] == ids[ranks[i]];
        n += !seen;
    }
    return n;
}

/* Hosts numbered in order of first rank. */
static int number_hosts(const char *names, int world, int *id)
{
    int hosts = 0;
    int *first = xcalloc((size_t)world, sizeof *first);
    for (int i = 0; i < world; i++) {
        id[i] = -1;
        for (int h = 0; h < hosts && id[i] < 0; h++)
            if (strcmp(names + (size_t)i * NAME, names + (size_t)first[h] * NAME) == 0)
                id[i] = h;
        if (id[i] < 0) {
            first[hosts] = i;
            id[i] = hosts++;
        }
    }
    free(first);
    return hosts;
}

int hosts_check(struct comm *c, const struct plan *p, bool warn, int *hosts)
{
    char mine[NAME] = "";
    process_host(mine);
    char *names = xcalloc((size_t)p->world, NAME);
    int *id = xcalloc((size_t)p->world, sizeof *id), *node = xcalloc((size_t)p->world, sizeof *node);
    int r = host_gather(comm_world(c), mine, names, NAME);
    *hosts = r == 0 ? number_hosts(names, p->world, id) : 0;
    for (int i = 0; i < p->world; i++)
        node[i] = p->ranks[i].node;
    for (int g = 0; g < p->group_count && r == 0 && *hosts > 1; g++) {
        const struct plan_group *q = &p->groups[g];
        int have = distinct(id, q->ranks, q->size), planned = distinct(node, q->ranks, q->size);
        if (have <= planned)
            continue;
        if (warn)
            notice("group %s %d is on %d hosts, the plan says %d", group_name[q->kind], q->index, have,
                   planned);
        else
            r = error(STATUS_USAGE,
                      "group %s %d is on %d hosts, the plan says %d: launch so that rank R is on node R's "
                      "host, or --placement warn",
                      group_name[q->kind], q->index, have, planned);
    }
    free(names);
    free(id);
    free(node);
    return r;
}

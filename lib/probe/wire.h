/* SPDX-License-Identifier: MIT */
/* Seconds that messages take, between two ranks and in collectives of a group. All are collective over the
 * group. */
#ifndef PROBE_WIRE_H
#define PROBE_WIRE_H

#include "base/process.h"
#include "plan/plan.h"
#include "probe/bench.h"

/* ---- collectives ---- */

/* `bytes`: of what is gathered, of the whole input that is summed, of a rank's rows for all others; a message
 * is sent both ways by both of each two neighbours. */
enum wire { WIRE_MESSAGE, WIRE_GATHER, WIRE_SCATTER, WIRE_REDUCE, WIRE_EXCHANGE, WIRES };
extern const char *const wire_name[WIRES];
/* The mean of `repeats`, from when all are ready to when this rank is; *s is of the slowest. */
int wire_time(const struct bench *b, struct group *g, enum wire wire, size_t bytes, int repeats, double *s);

/* ---- every link ---- */

enum { LINK_BYTES = 2 << 20 }; /* of the messages that measure a link */

/* Between this rank and another, with whose messages it competes for nothing, and both ways at once. */
struct link {
    enum group_kind kind; /* of the plan's group that has it, and which; GROUP_KINDS: of no plan */
    int index, peer;      /* a rank of the job */
    double Bps;           /* each way, at best */
    bool across;          /* to another host, */
    char host[HOST_NAME]; /* this one */
};
/* Groups of the job, as the plan names them: [GROUP_KINDS], NULL where this rank is alone; or, without a plan,
 * the world. They are made once, and joined. */
struct wires {
    struct group *group[GROUP_KINDS];
    const struct plan *plan; /* NULL: none */
};
int wires_open(struct wires *w, struct comm *c, const struct plan *p);
void wires_close(struct wires *w);

/* Who measures with whom, of n ranks: each with each other in so few rounds, or, of more than 64, with those 1,
 * 2, 4, … away (by exclusive or). The partner may be oneself: a rest. */
int link_rounds(int n);
int link_partner(int n, int round, int me);

/* Collective over the job. Measures this rank's links with all other members of its groups; all ranks do at
 * once, in rounds in which each has one partner. Without a plan: with all ranks, or, of more than 64, with
 * those 1, 2, 4, … away. `host` is this rank's. Caller frees *list. */
int wires_measure(const struct bench *b, const struct wires *w, const char *host, struct link **list,
                  int *count);

#endif

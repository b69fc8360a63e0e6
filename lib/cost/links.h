/* SPDX-License-Identifier: MIT */
/* Seconds of communication. Two levels of links: inside a node, and across, where each rank has its own way
 * out.
 *
 * Formulas (Thakur, Rabenseifner, Gropp 2005; NVIDIA, NCCL tests, PERFORMANCE.md): of S bytes on G ranks, a
 * ring moves (G−1)/G·S through each link. A group with g ranks on each of N nodes has g ways out of a node:
 * its rings share them,
 *
 *     max((g−1)/g·S/intra, (N−1)/N·S/(g·inter)) + (g−1)·latency inside + (N−1)·latency across
 *
 * for an all-gather (S: what is gathered) or a reduce-scatter (S: the whole input); an all-reduce is both.
 * All-to-all of S bytes a rank, evenly over the group: (g−1)/G·S stays inside the node, (G−g)/G·S leaves it,
 * at the same time. Links reach LINK_SHARE of their rate (NCCL's bus bandwidth: 360 of 450 GB/s over NVLink
 * 4, 0.8). */
#ifndef COST_LINKS_H
#define COST_LINKS_H

#include "plan/plan.h"

#define LINK_SHARE 0.8

/* A group, as far as its speed goes. */
struct reach {
    int64_t ranks, per_node; /* all, and those on the node that has most of them */
};
/* Of the group of this kind that holds the rank; one rank where there is none. */
struct reach group_reach(const struct plan *p, enum group_kind kind, int rank);

/* NaN where the machine does not say how fast a link is that is needed. */
double gather_s(const struct machine *m, struct reach g, double bytes); /* or reduce-scatter */
double exchange_s(const struct machine *m, struct reach g, double bytes);
double message_s(const struct machine *m, bool across, double bytes);

/* Rows to experts, or back: n tokens of a rank, each to K of E experts, `row` bytes a copy, the worst rank
 * having `lambda` times the mean. Dispatcher alltoall sends K copies; the others one to each node that has
 * one of the K (DeepSeek, DeepEP), copied on over the links inside. */
double dispatch_s(const struct plan *p, struct reach ep, double n, double row, double lambda);

#endif

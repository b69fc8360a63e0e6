/* SPDX-License-Identifier: MIT */
/* What the machine is: moe-train --calibrate measures it, all ranks at once, and writes a cluster file
 * (moe-cluster(5)) of which plans then take their seconds.
 *
 * Products of many shapes give the rate and its curve by work (cost/curve.h); attention, its shares of that
 * rate; sums too long for caches, the memory's bandwidth; messages and collectives of many sizes in groups of
 * 2, 4, … ranks, the links' bandwidth and latency: those that come nearest to all of them, by the formulas of
 * cost/links.h. Figures of a cluster file are peaks of which plans count with a share (MEMORY_SHARE,
 * LINK_SHARE): so what is measured is divided by that. What was measured, and how far the fit is from it, stays
 * in the file as remarks.
 *
 * A measurement whose median is far from its best was disturbed. Such ones are taken again; where too many stay
 * so there is no file, and an error. */
#ifndef PROBE_CALIBRATE_H
#define PROBE_CALIBRATE_H

#include "probe/probe.h"

/* The whole command: every rank returns the same status, with error() when it is not DONE. *broken and *comm:
 * see health_run(). */
enum status calibrate_run(const struct probe_options *o, struct comm **comm, bool *broken);

#endif

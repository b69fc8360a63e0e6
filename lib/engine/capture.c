/* SPDX-License-Identifier: MIT */
#include "engine/capture.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/halt.h"
#include "base/memory.h"
#include "base/notice.h"
#include "comm/host.h"
#include "engine/buckets.h"

/* A part of a stash's microbatches. */
struct captured {
    int (*work)(struct engine *e, struct stash *stash); /* NULL: it has not been done yet */
    struct graph *graph;
};

static void why_not(const struct engine *e, bool wanted, char *why, size_t room)
{
    if (!wanted)
        snprintf(why, room, "--capture off");
    else if (!e->be->graph_begin)
        snprintf(why, room, "backend '%s' has no graphs, or a timeline shows each operation", e->be->name);
    else if (e->ep > 1)
        snprintf(why, room, "ep %d: the host must know how many rows go where", e->ep);
    else if (e->etp > 1)
        snprintf(why, room, "etp %d: ranks talk to each other within a layer", e->etp);
    else if (e->tp > 1 && !comm_in_graphs(e->comm))
        snprintf(why, room, "tp %d: ranks talk to each other within a layer, and by communication '%s'", e->tp,
                 comm_kind(e->comm));
    else if (e->routing_dump)
        snprintf(why, room, "--dump-routing reads each decision");
}

void capture_open(struct engine *e, bool wanted)
{
    struct capture *c = &e->capture;
    *c->off = '\0';
    why_not(e, wanted, c->off, sizeof c->off);
    if (!*c->off)
        c->parts = xcalloc((size_t)e->arena.stash_count * CAPTURED_PARTS, sizeof *c->parts);
}

void capture_close(struct engine *e)
{
    struct capture *c = &e->capture;
    for (int i = 0; c->parts && i < e->arena.stash_count * CAPTURED_PARTS; i++)
        if (c->parts[i].graph)
            e->be->graph_free(c->parts[i].graph);
    free(c->parts);
    c->parts = NULL;
}

/* error() is set. */
static void give_up(struct engine *e)
{
    snprintf(e->capture.off, sizeof e->capture.off, "%s", error_text());
    notice("steps go on without graphs: %s", e->capture.off);
    error_clear();
}

enum made { MADE, NOT_NOW, NEVER };

static int capture(struct engine *e, struct captured *p, enum captured_part part, struct stash *stash,
                   int64_t *made)
{
    int begun = e->be->graph_begin(e->s);
    *made = begun < 0 ? NEVER : NOT_NOW;
    if (begun <= 0)
        return 0;
    e->profile.quiet = true;
    e->fresh = part >= CAPTURED_FRESH_BACKWARD;
    int r = p->work(e, stash);
    e->profile.quiet = false;
    p->graph = e->be->graph_end(e->s);
    *made = p->graph ? MADE : NEVER;
    /* Where communication has failed there is nothing to go on with. */
    return r < 0 || (!p->graph && e->be->poll() < 0) ? -1 : 0;
}

/* The ranks of a tp group, who are in each other's graphs, all have theirs or none has. */
static int make(struct engine *e, struct captured *p, enum captured_part part, struct stash *stash)
{
    int64_t made, worst;
    TRY(capture(e, p, part, stash, &made));
    worst = made;
    if (e->tp > 1)
        TRY(host_max(e->group[GROUP_TP], &worst));
    if (worst != MADE && p->graph) {
        e->be->graph_free(p->graph);
        p->graph = NULL;
        error(STATUS_ENV, "another rank of group 'tp' cannot");
    }
    if (worst == NEVER)
        give_up(e);
    return 0;
}

/* All that is under way comes to its end; what is captured then belongs to no moment of the program, so that no
 * bucket is summed or awaited in it. */
static int settle(struct engine *e)
{
    weights_settle(e);
    buckets_at(e, -1);
    return e->be->sync(e->s);
}

int capture_make(struct engine *e)
{
    struct capture *c = &e->capture;
    bool quiet = false;
    for (int i = 0; i < e->arena.stash_count * CAPTURED_PARTS && !*c->off && !e->logits_path; i++) {
        struct captured *p = &c->parts[i];
        if (!p->work || p->graph || (i % CAPTURED_PARTS == CAPTURED_EVALUATION) != e->evaluate)
            continue;
        if (!quiet)
            TRY(settle(e));
        quiet = true;
        TRY(make(e, p, i % CAPTURED_PARTS, &e->arena.stashes[i / CAPTURED_PARTS]));
    }
    return 0;
}

int capture_run(struct engine *e, enum captured_part part, struct stash *stash,
                int (*work)(struct engine *e, struct stash *stash))
{
    struct capture *c = &e->capture;
    if (*c->off || e->logits_path)
        return work(e, stash);
    if (e->fresh)
        part += CAPTURED_FRESH_BACKWARD - CAPTURED_BACKWARD;
    struct captured *p = &c->parts[(stash - e->arena.stashes) * CAPTURED_PARTS + part];
    p->work = work;
    if (!p->graph)
        return work(e, stash);
    halt_at("graph");
    e->be->graph_run(e->s, p->graph);
    c->runs++;
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* The two ends of the model: embedding, and final norm with head and loss. Both matrices are cut by vocabulary
 * over tp. */
#include "engine/head.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "comm/collective.h"
#include "engine/linear.h"
#include "engine/norm.h"
#include "engine/parallel.h"
#include "engine/totals.h"

int embed_forward(struct engine *e, struct stash *stash)
{
    struct arena *m = &e->arena;
    int64_t first = m->vocab_first + (fault("vocabulary-offset") && e->at.tp > 0);
    e->be->embedding(e->s, &OP(embedding, .tokens = e->T, .width = e->H, .first = first, .count = m->vocab,
                               .token = stash->tokens, .table = e->embed.w, .y = tp_partial(e, stash->x[0]),
                               .type = e->type));
    return tp_reduce(e, stash->x[0]);
}

int embed_backward(struct engine *e, struct stash *stash, const void *d)
{
    struct arena *m = &e->arena;
    const void *dg = tp_gather(e, d, e->ws->gather_d, e->H);
    if (!dg)
        return -1;
    if (e->embed.g != e->head.g) /* tied: the head's product has begun it */
        gradient_begin(e, e->embed.g, m->vocab * e->H);
    e->be->embedding_backward(e->s, &OP(embedding_backward, .tokens = e->T, .width = e->H,
                                        .first = m->vocab_first, .count = m->vocab, .token = stash->tokens,
                                        .dy = dg, .d_table = e->embed.g, .type = e->type));
    return 0;
}

/* ---- logits to a file, for tests: one safetensors tensor [micro,S,V] ---- */

static int write_logits(const char *path, const struct plan *p, const float *logits)
{
    int64_t bytes = plan_microbatch_tokens(p) * p->model.vocab * 4;
    char header[256];
    int n = snprintf(header, sizeof header - 8,
                     "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%" PRId64 ",%" PRId64 ",%" PRId64
                     "],\"data_offsets\":[0,%" PRId64 "]}}",
                     p->batch.micro, p->batch.seq, p->model.vocab, bytes);
    while (n % 8)
        header[n++] = ' ';
    uint64_t size = (uint64_t)n;
    struct output o;
    TRY(output_open(&o, path));
    fwrite(&size, 8, 1, o.stream);
    fwrite(header, 1, (size_t)n, o.stream);
    fwrite(logits, 1, (size_t)bytes, o.stream);
    return output_commit(&o);
}

/* The tp group's columns come together on its first rank, which writes. */
static int dump_logits(struct engine *e)
{
    const struct plan *p = e->plan;
    const char *path = e->logits_path;
    e->logits_path = NULL;
    if (e->microbatch != 0)
        return 0;
    int64_t V = p->model.vocab, mine = e->T * e->arena.vocab;
    float *part = xmalloc((size_t)mine * 4), *whole = NULL;
    int r = e->be->download(e->s, part, e->ws->logits, (size_t)mine * 4);
    if (e->at.tp > 0) {
        if (r == 0)
            r = comm_wait(host_send(e->group[GROUP_TP], 0, e->at.tp, part, (size_t)mine * 4), NULL);
        free(part);
        return r;
    }
    whole = xmalloc((size_t)(e->T * V) * 4);
    for (int i = 0; i < e->tp && r == 0; i++) {
        int64_t first, count;
        even_part(V, e->tp, i, &first, &count);
        if (i > 0) {
            part = xrealloc(part, (size_t)(e->T * count), 4);
            r = comm_wait(host_recv(e->group[GROUP_TP], i, i, part, (size_t)(e->T * count) * 4), NULL);
        }
        for (int64_t t = 0; t < e->T && r == 0; t++)
            memcpy(whole + t * V + first, part + t * count, (size_t)count * 4);
    }
    if (r == 0)
        r = write_logits(path, p, whole);
    free(part);
    free(whole);
    return r;
}

/* ---- final norm, head, loss ---- */

static int loss(struct engine *e, struct stash *stash)
{
    struct workspace *ws = e->ws;
    int64_t V = e->arena.vocab, each = e->T * 3;
    float *mine = ws->ce_stats, *all = e->tp > 1 ? mine + each : mine;
    e->be->softmax_stats(e->s, &OP(softmax_stats, .rows = e->T, .width = V, .first = e->arena.vocab_first,
                                   .logits = ws->logits, .target = stash->targets, .stats = mine));
    if (e->tp > 1) {
        enum phase before = profile_enter(&e->profile, PHASE_TP);
        TRY(all_gather(e->group[GROUP_TP], e->s, mine, all, (size_t)each * 4));
        profile_enter(&e->profile, before);
    }
    e->be->cross_entropy(e->s, &OP(cross_entropy, .rows = e->T, .width = V, .first = e->arena.vocab_first,
                                   .parts = e->tp, .logits = ws->logits, .stats = all, .target = stash->targets,
                                   .scale = (float)e->loss_scale, .loss = ws->losses,
                                   .dlogits = e->evaluate ? NULL : ws->dlogits, .type = e->type));
    totals_count(e, e->T, ws->losses, NULL, 1, &e->arena.step->totals.loss);
    return 0;
}

int head_step(struct engine *e, struct stash *stash, void *x)
{
    struct workspace *ws = e->ws;
    int64_t H = e->H, V = e->arena.vocab;
    norm(e, x, &e->final_norm, ws->branch);
    const void *h = tp_gather(e, ws->branch, ws->gather, H);
    if (!h)
        return -1;
    linear_f32(e, e->T, V, H, h, e->head.w, ws->logits);
    if (e->logits_path)
        TRY(dump_logits(e));
    TRY(loss(e, stash));
    if (e->evaluate)
        return 0;
    linear_weight(e, e->T, V, H, ws->dlogits, h, e->head.g);
    linear_input(e, e->T, V, H, ws->dlogits, e->head.w, tp_partial(e, ws->dh));
    TRY(tp_reduce(e, ws->dh));
    norm_backward(e, x, &e->final_norm, ws->dh, ws->dh);
    e->be->copy(e->s, x, ws->dh, (size_t)(e->n * H) * type_bytes(e->type));
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* The operations of routing, of the loss and of the update. */
#include "access.h"
#include "access_put.h"

void access_router(struct access_list *l, const struct router *o)
{
    int64_t scores = o->tokens * o->experts, choices = o->tokens * o->top_k;
    put(l, READ, o->logits, scores, 4);
    put(l, READ, o->bias, o->experts, 4);
    put(l, WRITE, o->scores, scores, 4);
    put(l, WRITE, o->lse, o->tokens, 4);
    put(l, WRITE, o->topk, choices, 4);
    put(l, WRITE, o->weight, choices, 4);
    put(l, WRITE, o->margin, o->tokens, 4);
}

void access_router_backward(struct access_list *l, const struct router_backward *o)
{
    const struct router *f = &o->fwd;
    int64_t scores = f->tokens * f->experts, choices = f->tokens * f->top_k;
    put(l, READ, f->sigmoid ? f->logits : NULL, scores, 4);
    put(l, READ, f->sigmoid || o->z != 0 ? f->lse : NULL, f->tokens, 4);
    put(l, READ, f->scores, scores, 4);
    put(l, READ, f->topk, choices, 4);
    put(l, READ, o->d_weight, choices, 4);
    put(l, READ, o->aux, f->experts, 4);
    put(l, WRITE, o->dlogits, scores, 4);
}

void access_router_stats(struct access_list *l, const struct router_stats *o)
{
    put(l, READ, o->scores, o->tokens * o->experts, 4);
    put(l, READ, o->lse, o->tokens, 4);
    put(l, READ, o->topk, o->tokens * o->top_k, 4);
    put(l, WRITE, o->prob, o->experts, 4);
    put(l, WRITE, o->count, o->experts, 4);
    put(l, WRITE, o->z, 1, 4);
}

void access_capacity(struct access_list *l, const struct capacity *o)
{
    int64_t choices = o->tokens * o->top_k;
    put(l, READ, o->topk, choices, 4);
    put(l, READ, o->by_prob ? o->weight : NULL, choices, 4);
    put(l, WRITE, o->keep, choices, 4);
    put(l, WRITE, o->dropped, 1, 4);
}

void access_sort_choices(struct access_list *l, const struct sort_choices *o)
{
    int64_t choices = o->tokens * o->top_k;
    put(l, READ, o->topk, choices, 4);
    put(l, READ, o->keep, choices, 4);
    put(l, READ, o->slot_of, o->experts, 4);
    put(l, WRITE, o->count, o->experts, 4);
    put(l, WRITE, o->first, o->experts + 1, 4);
    put(l, WRITE, o->position, choices, 4);
    put_counted(l, WRITE, o->keep, o->source, choices, 1, 1, 4);
}

void access_permute(struct access_list *l, const struct permute *o)
{
    size_t unit = type_bytes(o->type);
    const float *weight = o->weight_out ? o->weight_in : NULL;
    int64_t choices = o->tokens * o->top_k;
    put(l, READ, o->count, 1, 4);
    put(l, READ, o->x, o->tokens * o->width, unit);
    put_counted(l, READ, o->count, o->source, o->rows < choices ? o->rows : choices, 1, 1, 4);
    put(l, READ, weight, choices, 4);
    put_counted(l, WRITE, o->count, o->y, o->rows, o->width, o->ldy, unit);
    put_counted(l, WRITE, o->count, o->weight_out, o->rows, 1, o->ldw, 4);
}

void access_unpermute(struct access_list *l, const struct unpermute *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->position, o->tokens * o->top_k, 4);
    put_bound(l, READ, o->x, o->rows, o->width, o->ldx, unit);
    put_bound(l, READ, o->weight_in, o->rows, 1, o->ldw, 4);
    put(l, WRITE, o->y, o->tokens * o->width, unit);
    put(l, WRITE, o->weight_in ? o->weight_out : NULL, o->tokens * o->top_k, 4);
}

void access_arrivals(struct access_list *l, const struct arrivals *o)
{
    int64_t segments = o->sources * o->experts;
    put(l, READ, o->arrived, segments, 4);
    put(l, WRITE, o->row, o->experts + 1, 4);
    put(l, WRITE, o->to, segments + 1, 4);
    put(l, WRITE, o->from, segments, 4);
}

void access_regroup(struct access_list *l, const struct regroup *o)
{
    size_t unit = type_bytes(o->type);
    enum access_kind grouped = o->back ? READ : UPDATE, wire = o->back ? UPDATE : READ;
    if (!o->segments)
        return;
    put(l, READ, o->to, o->segments + 1, 4);
    put(l, READ, o->from, o->segments, 4);
    put_bound(l, grouped, o->grouped, o->rows, o->width, o->width, unit);
    put_bound(l, grouped, o->weight, o->rows, 1, 1, 4);
    put_bound(l, wire, o->wire, o->wire_rows, o->width, o->ld, unit);
    put_bound(l, wire, o->weight ? o->wire_weight : NULL, o->wire_rows, 1, o->ldw, 4);
}

void access_embedding(struct access_list *l, const struct embedding *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->token, o->tokens, 4);
    put(l, READ, o->table, o->count * o->width, unit);
    put(l, WRITE, o->y, o->tokens * o->width, unit);
}

void access_embedding_backward(struct access_list *l, const struct embedding_backward *o)
{
    put(l, READ, o->token, o->tokens, 4);
    put(l, READ, o->dy, o->tokens * o->width, type_bytes(o->type));
    put(l, UPDATE, o->d_table, o->count * o->width, 4);
}

void access_softmax_stats(struct access_list *l, const struct softmax_stats *o)
{
    put(l, READ, o->logits, o->rows * o->width, 4);
    put(l, READ, o->target, o->rows, 4);
    put(l, WRITE, o->stats, 3 * o->rows, 4);
}

void access_cross_entropy(struct access_list *l, const struct cross_entropy *o)
{
    put(l, READ, o->stats, o->parts * o->rows * 3, 4);
    put(l, WRITE, o->loss, o->rows, 4);
    if (!o->dlogits)
        return;
    put(l, READ, o->logits, o->rows * o->width, 4);
    put(l, READ, o->target, o->rows, 4);
    put(l, WRITE, o->dlogits, o->rows * o->width, type_bytes(o->type));
}

void access_total(struct access_list *l, const struct total *o)
{
    put(l, READ, o->x, o->count, 4);
    if (o->y != o->x)
        put(l, READ, o->y, o->count, 4);
    put(l, UPDATE, o->out, 1, 8);
}

void access_scale(struct access_list *l, const struct scale *o)
{
    put(l, UPDATE, o->x, o->count, 4);
}

void access_clip(struct access_list *l, const struct clip *o)
{
    put(l, READ, o->square, 1, 8);
    put(l, READ, o->loss, 1, 8);
    put(l, WRITE, &o->update->grad_scale, 1, 4);
    put(l, WRITE, &o->update->skip, 1, 4);
}

void access_adamw(struct access_list *l, const struct adamw *o)
{
    put(l, READ, o->update, 1, sizeof *o->update);
    put(l, READ, o->grad, o->count, 4);
    put(l, UPDATE, o->master, o->count, 4);
    put(l, UPDATE, o->m, o->count, 4);
    put(l, UPDATE, o->v, o->count, 4);
    put_bound(l, UPDATE, o->param, 1, o->count, o->count, type_bytes(o->type)); /* left alone by `skip` */
}

void access_balance(struct access_list *l, const struct balance *o)
{
    int64_t count = o->layers * o->experts;
    put(l, READ, &o->update->skip, 1, 4);
    put(l, READ, o->loads, count, 4);
    put(l, UPDATE, o->bias, count, 4);
}

void access_fill_normal(struct access_list *l, const struct fill_normal *o)
{
    put_rows(l, WRITE, o->x, o->rows, o->width, o->ldx, type_bytes(o->type));
}

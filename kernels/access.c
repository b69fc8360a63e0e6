/* SPDX-License-Identifier: MIT */
/* The operations of layers. */
#include "access.h"

#include "access_put.h"

void access_put(struct access_list *l, struct access a)
{
    if (!a.p || !a.width || !a.rows || !a.planes)
        return;
    if (a.rows == 1 || a.ld == a.width) { /* a plane is one row */
        a.width *= a.rows;
        a.rows = a.planes;
        a.ld = a.step;
        a.planes = 1;
    }
    if (a.rows == 1 || a.ld == a.width) {
        a.width *= a.rows;
        a.rows = 1;
    }
    l->list[l->count++] = a;
}

void access_matmul(struct access_list *l, const struct matmul *o)
{
    size_t in = type_bytes(o->in);
    if (!o->m || !o->n)
        return;
    put_rows(l, READ, o->a, o->ta ? o->k : o->m, o->ta ? o->m : o->k, o->lda, in);
    put_rows(l, READ, o->b, o->tb ? o->n : o->k, o->tb ? o->k : o->n, o->ldb, in);
    put_rows(l, o->beta != 0 ? UPDATE : WRITE, o->c, o->m, o->n, o->ldc, type_bytes(o->out));
}

void access_grouped_matmul(struct access_list *l, const struct grouped_matmul *o)
{
    size_t unit = type_bytes(o->type);
    bool weight = o->kind == GROUPED_WEIGHT;
    if (!o->experts)
        return;
    put(l, READ, o->row, o->experts + 1, 4);
    put_bound(l, o->kind == GROUPED_INPUT ? UPDATE : READ, o->x, o->rows, o->k, o->ldx, unit);
    put_bound(l, o->kind == GROUPED_FORWARD ? UPDATE : READ, o->y, o->rows, o->n, o->ldy, unit);
    put_rows(l,
             !weight        ? READ
             : o->beta != 0 ? UPDATE
                            : WRITE,
             o->w, o->experts, o->n * o->k, o->stride, weight ? 4 : unit);
}

void access_rmsnorm(struct access_list *l, const struct rmsnorm *o)
{
    size_t unit = type_bytes(o->type);
    put_rows(l, READ, o->x, o->rows, o->heads * o->width, o->ldx, unit);
    put(l, READ, o->w, o->width, unit);
    put(l, READ, o->sumsq, o->rows, 4);
    put_rows(l, WRITE, o->y, o->rows, o->heads * o->width, o->ldy, unit);
}

void access_rmsnorm_backward(struct access_list *l, const struct rmsnorm_backward *o)
{
    size_t unit = type_bytes(o->type);
    int64_t width = o->heads * o->width;
    put_rows(l, READ, o->x, o->rows, width, o->ldx, unit);
    put(l, READ, o->w, o->width, unit);
    put_rows(l, READ, o->dy, o->rows, width, o->lddy, unit);
    put(l, READ, o->sumsq, o->rows, 4);
    put(l, READ, o->sumsq ? o->dot : NULL, o->rows, 4);
    put_rows(l, o->accumulate ? UPDATE : WRITE, o->dx, o->rows, width, o->lddx, unit);
    put(l, UPDATE, o->dw, o->width, 4);
}

void access_row_sums(struct access_list *l, const struct row_sums *o)
{
    size_t unit = type_bytes(o->type);
    put_rows(l, READ, o->x, o->rows, o->width, o->ldx, unit);
    put(l, WRITE, o->sumsq, o->rows, 4);
    if (!o->dot)
        return;
    put_rows(l, READ, o->dy, o->rows, o->width, o->lddy, unit);
    put(l, READ, o->w, o->width, unit);
    put(l, READ, o->clip > 0 ? o->sumsq_in : NULL, o->rows, 4);
    put(l, WRITE, o->dot, o->rows, 4);
}

void access_rope(struct access_list *l, const struct rope *o)
{
    size_t unit = type_bytes(o->type);
    access_put(l, (struct access){.kind = UPDATE,
                                  .p = o->x,
                                  .width = (size_t)o->rotary * unit,
                                  .rows = (size_t)o->heads,
                                  .ld = (size_t)o->head_dim * unit,
                                  .planes = (size_t)o->rows,
                                  .step = (size_t)o->ld * unit});
    put(l, READ, o->cos_sin, (o->rows < o->seq ? o->rows : o->seq) * o->rotary, 4);
}

/* Queries or what is like them, and keys or what is like them. */
static void heads(struct access_list *l, enum access_kind kind, const struct attention *o, const void *p,
                  int64_t ld)
{
    put_rows(l, kind, p, o->sequences * o->seq, o->heads * o->dim, ld, type_bytes(o->type));
}

static void kv_heads(struct access_list *l, enum access_kind kind, const struct attention *o, const void *p,
                     int64_t ld)
{
    put_rows(l, kind, p, o->sequences * o->seq, o->kv_heads * o->dim, ld, type_bytes(o->type));
}

void access_attention(struct access_list *l, const struct attention *o)
{
    heads(l, READ, o, o->q, o->ldq);
    kv_heads(l, READ, o, o->k, o->ldk);
    kv_heads(l, READ, o, o->v, o->ldv);
    heads(l, WRITE, o, o->o, o->ldo);
    put(l, WRITE, o->lse, o->heads * o->sequences * o->seq, 4);
}

/* A backend need not use `delta`, nor all of it. */
void access_attention_backward(struct access_list *l, const struct attention_backward *o)
{
    const struct attention *f = &o->fwd;
    int64_t rows = f->sequences * f->seq;
    heads(l, READ, f, f->q, f->ldq);
    kv_heads(l, READ, f, f->k, f->ldk);
    kv_heads(l, READ, f, f->v, f->ldv);
    heads(l, READ, f, f->o, f->ldo);
    put(l, READ, f->lse, f->heads * rows, 4);
    heads(l, READ, f, o->d_o, o->lddo);
    heads(l, WRITE, f, o->dq, f->ldq);
    kv_heads(l, WRITE, f, o->dk, f->ldk);
    kv_heads(l, WRITE, f, o->dv, f->ldv);
    put_bound(l, UPDATE, o->delta, f->heads, rows, rows, 4);
}

void access_swiglu(struct access_list *l, const struct swiglu *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->count, 1, 4);
    put_counted(l, READ, o->count, o->gate_up, o->rows, 2 * o->width, 2 * o->width, unit);
    put_counted(l, READ, o->count, o->weight, o->rows, 1, 1, 4);
    put_counted(l, WRITE, o->count, o->y, o->rows, o->width, o->width, unit);
}

void access_swiglu_backward(struct access_list *l, const struct swiglu_backward *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->count, 1, 4);
    put_counted(l, READ, o->count, o->gate_up, o->rows, 2 * o->width, 2 * o->width, unit);
    put_counted(l, READ, o->count, o->weight, o->rows, 1, 1, 4);
    put_counted(l, READ, o->count, o->dy, o->rows, o->width, o->width, unit);
    put_counted(l, WRITE, o->count, o->d_gate_up, o->rows, 2 * o->width, 2 * o->width, unit);
    put_counted(l, WRITE, o->count, o->d_weight, o->rows, 1, 1, 4);
}

void access_add(struct access_list *l, const struct add *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->a, o->count, unit);
    put(l, READ, o->b, o->count * (o->parts > 0 ? o->parts : 1), unit);
    put(l, WRITE, o->y, o->count, unit);
}

void access_add_f64(struct access_list *l, const struct add_f64 *o)
{
    put(l, READ, o->b, o->count * o->parts, 8);
    put(l, UPDATE, o->y, o->count, 8);
}

void access_bias(struct access_list *l, const struct bias *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->bias, o->width, unit);
    put_rows(l, UPDATE, o->x, o->rows, o->width, o->ldx, unit);
}

void access_bias_backward(struct access_list *l, const struct bias_backward *o)
{
    put_rows(l, READ, o->dy, o->rows, o->width, o->lddy, type_bytes(o->type));
    put(l, UPDATE, o->d_bias, o->width, 4);
}

void access_clamp(struct access_list *l, const struct clamp *o)
{
    put_rows(l, UPDATE, o->x, o->rows, o->width, o->ldx, type_bytes(o->type));
}

void access_clamp_backward(struct access_list *l, const struct clamp_backward *o)
{
    size_t unit = type_bytes(o->type);
    put_rows(l, READ, o->x, o->rows, o->width, o->ldx, unit);
    put_rows(l, UPDATE, o->dx, o->rows, o->width, o->lddx, unit);
}

void access_copy_rows(struct access_list *l, const struct copy_rows *o)
{
    size_t unit = type_bytes(o->type);
    put_rows(l, READ, o->x, o->rows, o->width, o->ldx, unit);
    put_rows(l, WRITE, o->y, o->rows, o->width, o->ldy, unit);
}

void access_convert(struct access_list *l, const struct convert *o)
{
    put(l, READ, o->x, o->count, type_bytes(o->from));
    put(l, WRITE, o->y, o->count, type_bytes(o->to));
}

void access_row_gate(struct access_list *l, const struct row_gate *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->x, o->rows * o->width, unit);
    put(l, READ, o->g, o->rows, 4);
    put(l, WRITE, o->y, o->rows * o->width, unit);
}

void access_row_gate_backward(struct access_list *l, const struct row_gate_backward *o)
{
    size_t unit = type_bytes(o->type);
    put(l, READ, o->x, o->rows * o->width, unit);
    put(l, READ, o->dy, o->rows * o->width, unit);
    put(l, READ, o->g, o->rows, 4);
    put(l, WRITE, o->dx, o->rows * o->width, unit);
    put(l, WRITE, o->dg, o->rows, 4);
}

void access_sum_rows(struct access_list *l, const struct sum_rows *o)
{
    size_t unit = type_bytes(o->type);
    access_put(l, (struct access){.kind = READ,
                                  .p = (void *)o->x,
                                  .width = (size_t)o->width * unit,
                                  .rows = (size_t)o->rows,
                                  .ld = (size_t)o->ldx * unit,
                                  .planes = (size_t)o->parts,
                                  .step = (size_t)o->stride * unit});
    put_rows(l, WRITE, o->y, o->rows, o->width, o->ldy, unit);
}

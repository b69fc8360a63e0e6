/* SPDX-License-Identifier: MIT */
/* Sums over the inventory's table: no tensor is listed, so a model of any size is counted at once. */
#include "model/size.h"

#include "base/num.h"

/* Elements of all tensors (or of the matrices alone), with this many experts in a layer. -1 on overflow. */
static int64_t total(const struct model *m, int64_t experts, bool matrices)
{
    int64_t sum = 0;
    for (int layer = -1; layer < m->layers; layer++)
        for (int k = 0; k < TENSOR_KINDS; k++) {
            struct tensor t;
            int64_t n;
            if ((matrices && !tensor_multiplies(k)) || !inventory_tensor(m, k, layer, &t))
                continue;
            if (!mul_ok(t.rows, t.cols, &n) || !mul_ok(n, t.expert < 0 ? 1 : experts, &n) ||
                !add_ok(sum, n, &sum))
                return -1;
        }
    return sum;
}

int64_t model_parameters(const struct model *m)
{
    return total(m, m->experts, false);
}

int64_t model_active_parameters(const struct model *m)
{
    return total(m, m->top_k, false);
}

double model_flops_per_token(const struct model *m, int64_t seq)
{
    double matrices = (double)total(m, m->top_k, true);
    if (m->tied) /* the embedding multiplies in the head's place */
        matrices += (double)m->vocab * (double)m->hidden;
    /* scores and values: 2 products of 2·S·q, 3 times for forward and backward, half of it masked */
    double attention = 6.0 * (double)m->layers * (double)seq * (double)model_q_dim(m);
    return 6 * matrices + attention;
}

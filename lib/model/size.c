/* SPDX-License-Identifier: MIT */
/* Sums over the inventory's table: no tensor is listed, so a model of any size is counted at once. */
#include "model/size.h"

#include <math.h>

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
            if (!mul_ok(t.rows, t.cols, &n) || !mul_ok(n, tensor_of_experts(&t) ? experts : 1, &n) ||
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

/* Multiplications of a token forward in layer l besides its matrices. */
static double mixer_products(const struct model *m, int64_t l, int64_t seq)
{
    if (m->mixer[l] == MIX_LINEAR) {
        const struct linear *x = &m->linear;
        double state = 4.0 * (double)x->value_heads * (double)x->value_dim * (double)x->value_dim;
        return state + (double)x->taps * (double)(2 * linear_keys(m) + linear_values(m));
    }
    double keys = (double)seq / 2; /* on average, behind the causal mask */
    if (m->mixer[l] == MIX_WINDOW)
        keys = fmin(keys, (double)m->window);
    return keys * (double)m->heads * (double)(m->head_dim + m->value_dim);
}

double model_flops_per_token(const struct model *m, int64_t seq)
{
    double matrices = (double)total(m, m->top_k, true);
    if (m->tied) /* the embedding multiplies in the head's place */
        matrices += (double)m->vocab * (double)m->hidden;
    for (int64_t l = 0; l < m->layers; l++)
        matrices += mixer_products(m, l, seq);
    return 6 * matrices;
}

/* SPDX-License-Identifier: MIT */
/* What one rank holds: its part of each tensor, and where that part lies in the rank's flat buffers.
 *
 * A rank has three flat buffers of parameters: DENSE and EXPERT, each with weights, f32 gradients and, cut over
 * the replicas by ZeRO-1, the states of states.h; and BUFFER, f32 values that no optimizer touches. In a flat
 * buffer the tensors of two dimensions come first (they decay), then the vectors; both in inventory order, back
 * to back: so q|k|v is one [q+2kv, H] matrix, gate|up one [2F, H], and the local experts of a layer, in slot
 * order, lie at a constant stride. */
#ifndef PLAN_SHARD_H
#define PLAN_SHARD_H

#include "plan/plan.h"

enum flat { FLAT_DENSE, FLAT_EXPERT, FLAT_BUFFER, FLATS };

/* Gradients are partial sums over these ranks besides the replicas (dp, or edp for experts). */
enum partial {
    PARTIAL_NONE,
    PARTIAL_TP, /* whole on every tp rank, each saw other tokens */
    PARTIAL_KV, /* heads shared by a kv group */
};

struct shard {
    int tensor;        /* index in the inventory */
    int64_t row, rows; /* this rank's rows and columns of the tensor */
    int64_t col, cols;
    enum flat flat;
    int64_t offset; /* elements from the start of the flat buffer; rows × cols, dense */
    enum partial partial;
    /* This rank counts it in norms and writes it: one among those that hold the same part (its replicas
     * apart). */
    bool counted;
    bool second; /* the head's copy of a tied embedding on the last stage */
};

struct shards {
    struct shard *list; /* in inventory order; a tied head's copy last */
    int count;
    int64_t elements[FLATS];    /* of each flat buffer */
    int64_t decayed[FLATS];     /* of them, the first ones that decay */
    int64_t padded[FLATS];      /* rounded up so that the replicas' slices are equal and 64-element aligned */
    int replicas[FLATS];        /* dp (dense), edp (expert), 1 */
    int replica[FLATS];         /* this rank's index among them */
    int64_t slice[FLATS];       /* elements of a ZeRO slice: padded / replicas with zero ≥ 1, else padded */
    int64_t slice_first[FLATS]; /* where this rank's slice starts */
};

/* In time of the layers that the rank holds, with all their experts. */
void shards_init(struct shards *s, const struct plan *p, int rank);
/* The same without the list: elements, padded and slices alone, which need neither ranks nor slots of a
 * plan. In time of its layers; nothing to release. */
void shards_sizes(struct shards *s, const struct plan *p, const struct coords *at);
/* The same again for another stage of the same tp, ep and etp index: what is known of layers is in k, which is
 * all zero before the first. */
struct layer_sizes {
    int64_t elements[LAYER_KINDS][FLATS];
    bool known[LAYER_KINDS];
};
void shards_sizes_of(struct shards *s, const struct plan *p, const struct coords *at, struct layer_sizes *k);
/* What the rank holds of a tensor, or NULL; a tied head's copy is not looked at. */
const struct shard *shards_find(const struct shards *s, int tensor);
/* Slices of equal size for the replicas, from elements: replicas, padded and slices. */
void shards_cut(struct shards *s, const struct plan *p, const struct coords *at);
void shards_release(struct shards *s);

#endif

/* SPDX-License-Identifier: MIT */
/* What one rank holds: its part of each tensor, and where that part lies in the rank's flat buffers.
 *
 * A rank has three flat buffers of parameters: DENSE and EXPERT, each with weights, f32 gradients and, cut over
 * the replicas by ZeRO-1, the states of states.h; and BUFFER, f32 values that no optimizer touches. In a flat
 * buffer the tensors of two dimensions come first (they decay), then the vectors; both in inventory order, back
 * to back: so q|k|v is one [q+2kv, H] matrix, gate|up one [2F, H], and the local experts of a layer, in slot
 * order, lie at a constant stride.
 *
 * DENSE and EXPERT are cut into buckets of equal size, wherever that falls in a tensor, and ZeRO cuts each
 * bucket evenly over the replicas: one of them has as many slices as there are buckets, and what it keeps of
 * them lies back to back, in their order. Two replicas, three buckets:
 *
 *   the flat buffer     |0000 1111|0000 1111|00 11|
 *   states of replica 1 |1111 1111 11|
 */
#ifndef PLAN_SHARD_H
#define PLAN_SHARD_H

#include "plan/plan.h"

/* The default, where communication overlaps computation: 32 MiB, or 1 MiB for each replica if that is more.
 * What is awaited in the end is a bucket's time, so buckets are as small as links allow: a message of 1 MiB
 * takes 20 us on a link of 50 GB/s, of which its latency is 5 to 10. (PyTorch's DDP has 25 MiB, Megatron-LM the
 * larger of 40 million elements and one million for each replica.) */
int64_t bucket_default(const struct axes *a);
/* Whether there are several replicas of something, and what they sum is cut into buckets. */
bool plan_cuts_buckets(const struct plan *p);
/* Gives the plan the default, where it overlaps and says nothing of buckets. */
void bucket_resolve(struct plan *p);

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
    int64_t elements[FLATS]; /* of each flat buffer */
    int64_t decayed[FLATS];  /* of them, the first ones that decay */
    int64_t padded[FLATS];   /* rounded up so that slices of a bucket are equal and 64-element aligned */
    int64_t bucket[FLATS];   /* elements of a bucket; the last may have fewer */
    int replicas[FLATS];     /* dp (dense), edp (expert), 1 */
    int replica[FLATS];      /* this rank's index among them */
    int cuts[FLATS];         /* slices of a bucket: replicas with zero ≥ 1, else 1 */
    int64_t sliced[FLATS];   /* elements of one replica's slices: padded / cuts */
};

/* A run of a flat buffer. */
struct slice {
    int64_t first, count; /* its elements */
    int64_t place;        /* where it begins in the states of the replica that has it */
};

/* In time of the layers that the rank holds, with all their experts. */
void shards_init(struct shards *s, const struct plan *p, int rank);
/* The same without the list: elements, buckets and slices alone, which need neither ranks nor slots of a
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
/* From elements: replicas, padded, buckets and slices. */
void shards_cut(struct shards *s, const struct plan *p, const struct coords *at);
/* How many buckets a flat buffer has; 0 where it has no elements. */
int64_t shards_buckets(const struct shards *s, enum flat f);
/* What bucket k is of the flat buffer, and where this rank's slice of it is (with one cut the same). */
struct slice shards_bucket(const struct shards *s, enum flat f, int64_t k);
struct slice shards_slice(const struct shards *s, enum flat f, int64_t k);
/* What this rank has of [begin,end), slice after slice (with one cut all of it at once): the next one behind
 * *x, cut to that range, in *x, which is all zero before the first. False: there is no more. */
bool shards_next(const struct shards *s, enum flat f, int64_t begin, int64_t end, struct slice *x);
/* Which replica has element `at` in its slices (0 with one cut), and of [at,end) how much follows there. */
int shards_owner(const struct shards *s, enum flat f, int64_t at, int64_t end, struct slice *x);
void shards_release(struct shards *s);

#endif

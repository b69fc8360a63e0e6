/* SPDX-License-Identifier: MIT */
/* The plan: who owns what, and in which order it runs. A text file, complete in itself; moe-plan(5) gives the
 * format. moe-partition makes it, moe-plan-check proves it, moe-train executes it and derives nothing on its
 * own. */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include <stdio.h>

#include "model/inventory.h"
#include "model/model.h"

/* Axes. Dense part: world = tp·cp·dp·pp. Expert part: world = etp·ep·edp·pp. */
struct axes {
    int64_t tp, cp, dp, etp, ep, edp, pp, vpp;
    char order[32]; /* "tp-cp-ep-dp-pp": leftmost varies fastest; ep stands for the expert part's axis */
};

/* Where one rank stands on every axis. */
struct coords {
    int node, tp, cp, dp, etp, ep, edp, pp;
};

/* Groups of ranks that communicate. GROUP_KV: ranks that hold the same key/value heads (only when tp >
 * kv_heads); GROUP_EMBED: first and last stage of a tied model (only when pp > 1 and tied). DP_CP: what dense
 * gradients are summed over (only when cp > 1). */
enum group_kind {
    GROUP_TP,
    GROUP_CP,
    GROUP_DP,
    GROUP_DP_CP,
    GROUP_EP,
    GROUP_ETP,
    GROUP_EDP,
    GROUP_PP,
    GROUP_KV,
    GROUP_EMBED,
    GROUP_KINDS
};
extern const char *const group_name[GROUP_KINDS + 1]; /* tp cp dp dp-cp ep etp edp pp kv embed, NULL */

struct plan_group {
    enum group_kind kind;
    int index; /* among its kind */
    int size;
    int *ranks; /* in the order of the group */
};

/* One virtual stage: consecutive layers on one pipeline rank. The first also embeds, the last also has final
 * norm, head and loss. */
struct stage {
    int pp, chunk;
    int first, layers; /* layers may be 0 */
};

/* One operation of a schedule. */
struct op {
    /* 'F' forward; 'B' backward (all of it, or inputs only when the program has W); 'W' weight gradients */
    char kind;
    int chunk, microbatch;
};
struct program {
    struct op *ops;
    int count;
};

enum precision { PRECISION_F32, PRECISION_BF16, PRECISION_FP8 };
enum recompute { RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL };
enum dispatcher { DISPATCHER_ALLTOALL, DISPATCHER_DEEPEP, DISPATCHER_HYBRIDEP };
enum device { DEVICE_CPU, DEVICE_CUDA };
/* Their names, NULL at the end (fields.c). */
extern const char *const precision_name[], *const recompute_name[];
extern const char *const dispatcher_name[], *const device_name[];

struct batch {
    int64_t seq, micro, global; /* tokens a sequence; sequences a microbatch; sequences a step */
    int64_t microbatches;       /* global / (micro·dp) */
};

struct routing {
    double lambda;      /* memory is reserved for this skew: rows of the worst rank over the mean */
    double capacity;    /* capacity factor; 0: dropless */
    bool local_scope;   /* capacity from the rank's own tokens (Megatron), not the microbatch */
    bool drop_position; /* drop by position, else by probability */
};

#define MAX_BUCKET_BYTES ((int64_t)1 << 40)

struct training {
    enum precision precision;
    enum recompute recompute;
    int zero;     /* 0…3 */
    int schedule; /* index in schedules (schedule.h) */
    enum dispatcher dispatcher;
    bool overlap, grad_bf16, moment_bf16;
    int64_t bucket_bytes; /* of gradients that are summed at once (plan/shard.h); 0: all of a flat buffer */
};

/* What the plan knows of the machine. */
struct machine {
    char name[48];
    enum device device;
    int64_t nodes, per_node;      /* ranks a node */
    double memory_bytes;          /* a rank's; 0: unknown */
    double flops_bf16, flops_f32; /* a rank's peak, 0: unknown */
    double intra_Bps, inter_Bps;  /* a rank's, one direction, inside a node and between nodes; 0: unknown */
    double intra_s, inter_s;      /* latency of a message; 0: unknown */
    double flops_fp8;             /* 0: unknown */
    double memory_Bps;            /* of a rank's memory; 0: unknown */
    double host_s;                /* seconds a host takes to start an operation; 0: unknown */
    double node_mtbf_s;           /* mean seconds between failures of a node; 0: unknown */
    char efficiency[120];         /* shares of the peak by work of a product (cost/curve.h); "": unknown */
};

/* Predicted figures; NaN where not computed. Bytes are of the worst rank. */
struct predict {
    double memory_bytes, state_bytes, activation_bytes, workspace_bytes;
    double communicator_bytes; /* beside memory_bytes (cost/communicators.h) */
    int memory_rank;
    int arena; /* the version of the memory's layout that was counted (cost/arena.h) */
    double step_s, tokens_per_s, flops_per_token, mfu, bubble;
    double hfu;           /* as mfu, with what is computed again */
    double step_skewed_s; /* step_s when every layer's loads are as uneven as memory is reserved for */
    int seconds;          /* the version of the formulas that gave the seconds (cost/seconds.h); 0: none */
};

/* Where the experts are (slots.h). The slots of a layer are numbered from 0, each ep rank's one run of them. A
 * rank may have more than another, and an expert, as a replica, several: then there are more slots than
 * experts. Nothing in layers that are not MoE. */
struct slots {
    int most;        /* slots of the layer that has most */
    int32_t *first;  /* [layers][ep+1]: of each ep rank; the last is the number of slots */
    int32_t *expert; /* [layers][most]: the expert in each; -1 behind the last */
    int32_t *of;     /* [layers][E]: the first slot that has the expert; -1: none */
};

struct plan {
    struct model model;
    struct inventory inventory;
    int world;
    struct axes axes;
    struct batch batch;
    struct routing routing;
    struct training training;
    struct machine machine;
    struct stage *stages; /* [pp·vpp] in the order of the layers */
    int stage_count;
    struct coords *ranks; /* [world] */
    struct plan_group *groups;
    int group_count;
    /* [GROUP_KINDS][world]: where in groups the group of that kind is that holds the rank, or -1 */
    int *group_index;
    struct slots slots;
    struct program *programs; /* [pp] */
    struct predict predict;
    uint32_t crc32; /* of the text it was read from, to the sum record */
    bool sealed;    /* had a (right) sum */
    char *made_by;  /* command line, or NULL */
    int64_t
        save_every; /* steps between saves, where that is asked about (rule save-interval); not of the text */
};

void plan_release(struct plan *p);

/* Lookups. */
/* Index in stages (rule stages-cover). */
static inline int plan_stage_of(const struct plan *p, int pp, int chunk)
{
    return chunk * (int)p->axes.pp + pp;
}
/* Whether this pipeline rank has the embedding; final norm, head and loss. */
static inline bool plan_is_first(const struct plan *p, int pp)
{
    return p->stages[0].pp == pp;
}
static inline bool plan_is_last(const struct plan *p, int pp)
{
    return p->stages[p->stage_count - 1].pp == pp;
}
/* How many layers this pipeline rank has, in all its chunks. */
int64_t plan_layers_on(const struct plan *p, int pp);
/* NULL when there is none. */
const struct plan_group *plan_group_of(const struct plan *p, enum group_kind kind, int rank);
/* How many nodes its members are on. */
int plan_group_nodes(const struct plan *p, const struct plan_group *g);
static inline size_t plan_type_bytes(const struct plan *p)
{
    return p->training.precision == PRECISION_F32 ? 4 : 2;
}
/* Tokens of a microbatch over the tp·cp group, and of them this rank's share: they must divide. */
static inline int64_t plan_microbatch_tokens(const struct plan *p)
{
    return p->batch.seq * p->batch.micro;
}
static inline int64_t plan_local_tokens(const struct plan *p)
{
    return plan_microbatch_tokens(p) / (p->axes.tp * p->axes.cp);
}
/* Capacity of one expert for one microbatch of T tokens (Megatron: ceil((T·K/E)·factor) in fp64), 0 when
 * dropless. */
int64_t plan_expert_capacity(const struct plan *p, int64_t tokens);

#endif

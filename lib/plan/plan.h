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
extern const char *const group_name[GROUP_KINDS]; /* tp cp dp dp-cp ep etp edp pp kv embed */

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
    char kind; /* 'F' forward, 'B' backward (all of it, or inputs only when the program has W), 'W' weight
                  gradients */
    int chunk, microbatch;
};
struct program {
    struct op *ops;
    int count;
};

enum precision { PRECISION_F32, PRECISION_BF16, PRECISION_FP8 };
enum recompute { RECOMPUTE_NONE, RECOMPUTE_SELECTIVE, RECOMPUTE_FULL };
extern const char *const precision_name[], *const recompute_name[];
extern const char *const dispatcher_name[3];

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

struct training {
    enum precision precision;
    enum recompute recompute;
    int zero;            /* 0…3 */
    char schedule[16];   /* gpipe 1f1b interleaved zb-h1 */
    char dispatcher[16]; /* alltoall deepep hybridep */
    bool overlap, grad_bf16, moment_bf16;
};

/* What the plan knows of the machine. */
struct machine {
    char name[48], device[8];     /* device: cpu or cuda */
    int64_t nodes, per_node;      /* ranks a node */
    double memory_bytes;          /* a rank's; 0: unknown */
    double flops_bf16, flops_f32; /* a rank's peak, 0: unknown */
    double intra_Bps, inter_Bps;  /* a rank's, one direction, inside a node and between nodes; 0: unknown */
    double intra_s, inter_s;      /* latency of a message; 0: unknown */
};

/* Predicted figures; NaN where not computed. Bytes are of the worst rank. */
struct predict {
    double memory_bytes, state_bytes, activation_bytes, workspace_bytes;
    int memory_rank;
    double step_s, tokens_per_s, flops_per_token, mfu, bubble;
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
    int *group_index; /* [GROUP_KINDS][world]: index in groups of the group of that kind that holds a rank, or
                         -1 */
    int16_t *expert_slot; /* [layers][E]: slot of each expert, ep·(E/ep) + index on that ep rank; -1: none (and
                             in layers that are not MoE) */
    struct program *programs; /* [pp] */
    struct predict predict;
    uint32_t crc32; /* of the text it was read from, to the sum record */
    bool sealed;    /* had a (right) sum */
    char *made_by;  /* command line, or NULL */
};

/* What a plan is asked to be. 0 / negative / NULL means: derive it or take the default. */
struct request {
    const char *model;   /* --model, or NULL when the strategy names one */
    const char *cluster; /* preset or JSON; NULL: local */
    const char *strategy;
    int64_t world;
    struct axes axes;   /* 0: derived or 1 */
    const char *split;  /* layers per virtual stage, "4,3,4,5"; "auto": costs balanced; NULL: even, the first
                           ones one more */
    struct batch batch; /* microbatches is not looked at */
    struct routing routing; /* lambda 0: default */
    const char *precision, *recompute, *schedule;
    int64_t zero; /* -1: default 1 */
    const char *dispatcher, *overlap, *grad_dtype,
        *moment_dtype;   /* words of the options; NULL: alltoall off f32 f32 */
    const char *made_by; /* command line to note in the plan, or NULL */
};

/* Makes the plan, predictions included. A request that cannot be met: -1, status 2, naming the rule, the
 * numbers and the nearest legal values. */
int plan_make(struct plan *p, const struct request *r);
int plan_read(struct plan *p,
              const char *path); /* syntax, completeness and sum; whether it makes sense is plan_check()'s */
/* The same from text; check_sum false: a wrong sum (or none) is no error, p->sealed says which. */
int plan_parse(struct plan *p, const char *text, size_t bytes, const char *where, bool check_sum);
int plan_write(const struct plan *p, FILE *f); /* with sum */
int plan_write_json(const struct plan *p, FILE *f);
void plan_release(struct plan *p);

/* The schedule for every pipeline rank (schedule.c): names as in struct training. */
int schedule_make(struct plan *p);
extern const char *const schedule_name[4];
bool program_splits_backward(const struct program *g); /* has W ops */

/* Lookups. */
int plan_stage_of(const struct plan *p, int pp, int chunk); /* index in stages */
const struct plan_group *plan_group_of(const struct plan *p, enum group_kind kind,
                                       int rank); /* NULL when there is none */
static inline int64_t plan_layer_slot(const struct plan *p, int layer, int expert)
{
    return p->expert_slot[(int64_t)layer * p->model.experts + expert];
}
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

/* Verdicts (check.c). One line a rule. */
enum verdict { VERDICT_OK, VERDICT_WARN, VERDICT_FAIL };
struct finding {
    enum verdict verdict;
    const char *rule; /* id, as --rules lists */
    char text[400];   /* what, where, the numbers */
};
struct findings {
    struct finding *list;
    int count, fails, warns;
};
void plan_check(const struct plan *p, struct findings *out);
void findings_release(struct findings *f);
/* For moe-train, before it trusts a plan: -1 with error() when it cannot run it (cp > 1, zero > 1, fp8, …:
 * status 2) or when the plan contradicts itself (status 1, the rule). */
int plan_runnable(const struct plan *p);
/* Its first half: what is planned for other trainers only. */
int plan_within_limits(const struct plan *p);
/* Fills p->predict anew. */
int plan_predict(struct plan *p);

/* Runs the programs of all pipeline ranks with unit costs (simulate.c). F, B, W seconds a layer-less op; a B of
 * a program without W costs b+w. */
struct simulation {
    double span_s, bubble; /* time of the whole; 1 − busy/(pp·span) */
    int *in_flight; /* [pp] most microbatch·chunks held at once: from the start of F to the end of B, or of W
                       where there is one */
    int max_in_flight;
    int ranks;        /* pp */
    double **start_s; /* [pp][ops of that rank's program]: when each op starts */
};
/* -1 with error() (status 1) when the programs deadlock, miss or repeat an op, or order one wrongly: the text
 * says which op of which stage waits for what. */
int plan_simulate(const struct plan *p, double f_s, double b_s, double w_s, struct simulation *out);
/* Only whether each program has every op once: -1 with error() (status 1). */
int plan_programs_complete(const struct plan *p);
void simulation_release(struct simulation *s);

#endif

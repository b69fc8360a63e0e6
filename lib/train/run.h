/* SPDX-License-Identifier: MIT */
/* A run in progress: what all of this folder share. */
#ifndef TRAIN_RUN_H
#define TRAIN_RUN_H

#include <stdio.h>

#include "base/error.h"
#include "base/process.h"
#include "ckpt/line.h"
#include "ckpt/mark.h"
#include "comm/agree.h"
#include "data/data.h"
#include "engine/engine.h"
#include "train/log.h"
#include "train/options.h"
#include "train/timeline.h"

struct pace {
    double time_s;
    int64_t steps;
};

struct run {
    struct train_options options;  /* with rank 0's paths */
    const struct train_options *o; /* = &options */
    char *paths;                   /* their memory */
    struct recipe recipe;
    struct plan plan;
    struct comm *comm;
    const struct backend *be; /* NULL until device_open() */
    struct stream *stream;
    struct engine e;
    struct data *data, *eval;
    struct log log;
    int threads, hosts;
    char host[HOST_NAME], first_host[HOST_NAME]; /* this rank's, rank 0's */
    char id[RUN_ID];                             /* this start's, the same on all ranks */
    struct line line;                            /* what it comes from */
    struct mark *mark;                           /* rank 0: of --save's root */
    bool finite;                                 /* the weights at the start, on all ranks */
    bool tidied;                                 /* what is not of the line was set aside there */
    struct saver *saver;                         /* NULL without --save */
    bool save_pending;                           /* of the step `saving`: its files are being written */
    int64_t saving;
    bool said_wait;           /* that a save waited for the one before */
    struct pace pace[2];      /* of the steps, [true]: those beside the last save */
    double recent_s;          /* a step lately, for who watches */
    struct heard failed_save; /* the last save, if it failed: a text */
    double load_s;            /* at the start, of weights or a checkpoint */
    int64_t loaded;           /* rank 0: bytes that all ranks have read for that */
    int64_t step;             /* last one done */
    int64_t saved;            /* last one saved, or -1 */
    int64_t start_step;
    int32_t *tokens;  /* this dp rank's part of a step */
    bool *want;       /* which samples of a step this rank reads */
    char *companions; /* directory whose side files travel along */
    float *loads;     /* rank 0: [MoE layers,E] of the step */
    FILE *routing;
    struct timeline *timeline; /* or NULL */
    bool agreed;               /* a failure that all ranks know of */
    int64_t resident;          /* bytes of this process before the engine was there */
    int64_t process_bytes;     /* rank 0, at the end: the most any rank has grown by since then */
    enum status status;        /* how it ends */
};

/* comm_agree() on the outcome of a step of the run. */
int run_agree(struct run *run, int r);
bool run_is_first(const struct run *run); /* rank 0 */

#endif

/* SPDX-License-Identifier: MIT */
/* The one way in which ranks learn of a failure of one of them. */
#ifndef COMM_AGREE_H
#define COMM_AGREE_H

#include "base/error.h"
#include "comm/comm.h"

/* Collective over the job. r < 0: this rank has failed, error() says how. 0 on every rank when none has. Else
 * -1 on every rank with the worst status of any; the text stays with one rank, the lowest of those, which is
 * to say it, and is empty on all others. *agreed (or NULL) becomes true then; when communication itself fails,
 * -1 is this rank's alone and *agreed is left as it was. */
int comm_agree(struct comm *c, int r, bool *agreed);

/* Collective over the job. Rank 0's text (NUL-terminated, malloc'd; NULL counts as "") becomes everyone's;
 * `bytes`: its size, rank 0's too, or NULL for a text without NULs, not counting the NUL. r: whether rank 0 got
 * it. Returns as comm_agree(). */
int comm_share_text(struct comm *c, int r, char **text, size_t *bytes, bool *agreed);

/* What was wrong on some rank. */
struct heard {
    enum status status;
    int rank; /* who says so */
    char text[640];
};
/* Collective over the job. As comm_agree(), for a failure that the job survives: every rank learns of it,
 * and none keeps an error. 1 when a rank has failed, with *h filled; 0; -1 with error() when communication
 * itself fails. */
int comm_hear(struct comm *c, int r, struct heard *h);

#endif

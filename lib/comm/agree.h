/* SPDX-License-Identifier: MIT */
/* The one way in which ranks learn of a failure of one of them. */
#ifndef COMM_AGREE_H
#define COMM_AGREE_H

#include "comm/comm.h"

/* Collective over the job. r < 0: this rank has failed, error() says how. 0 on every rank when none has. Else
 * -1 on every rank with the worst status of any; the text stays with one rank, the lowest of those, which is
 * to say it, and is empty on all others. *agreed (or NULL) becomes true then; when communication itself fails,
 * -1 is this rank's alone and *agreed is left as it was. */
int comm_agree(struct comm *c, int r, bool *agreed);

#endif

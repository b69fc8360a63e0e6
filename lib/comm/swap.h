/* SPDX-License-Identifier: MIT */
/* The one primitive of device operations: messages between the members of a group, as work of the host in a
 * stream or, where the kind has a library of the device's own, as work of that. */
#ifndef COMM_SWAP_H
#define COMM_SWAP_H

#include "comm/collective.h"

/* Queued in s: sends and receives of all the members' pieces, at once; those for oneself are copies, and the
 * two lists of them may be cut differently. What touches no other piece of its peer is refused where the kind
 * takes one piece a peer (struct comm_ops). `what` names the operation in errors and lives on; the lists are
 * the caller's again. times (NULL: nobody asks) is filled before later work in s, for the last of the messages
 * to here; it must live till then. 0, or -1 if nothing was queued. */
int swap_queue(struct group *g, struct stream *s, const char *what, const struct comm_piece *send, int sends,
               const struct comm_piece *recv, int recvs, struct comm_times *times);

#endif

/* SPDX-License-Identifier: MIT */
/* The tree of n peers, along which what a job says of itself goes up and down: whatever the number of peers n,
 * none sends or receives more than 15·log16(n) messages, and the way from any to the top is log16(n) long. A
 * tree of more and shorter steps has fewer messages and is no faster: a step costs a latency, and on a host
 * with more ranks than processors the time until the one that is awaited gets its turn.
 *
 * A peer's parent is its number with the last hexadecimal digit that is not 0 made 0. Below 0 are 1 2 … f, 10
 * 20 … f0, 100 …; below 20 are 21 22 … 2f; below 21 none. So peer p and all below it are one run, p … p + span
 * - 1: what a gather moves is one piece of memory, a reduction combines in the order of the peers, and most
 * messages are between neighbours, which are likely on one host. */
#ifndef COMM_TREE_H
#define COMM_TREE_H

enum { TREE_CHILDREN = 15 * 8 }; /* the most that a peer has: an int has eight hexadecimal digits */

int tree_parent(int p, int n); /* of any peer but 0 */
/* The peers whose parent is p, in order: how many. */
int tree_children(int p, int n, int child[static TREE_CHILDREN]);
/* How many peers the run of p and all below it has. */
int tree_span(int p, int n);

#endif

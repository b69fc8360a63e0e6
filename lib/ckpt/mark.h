/* SPDX-License-Identifier: MIT */
/* The mark of a root: one run at a time writes there.
 *
 * ROOT/.moekit-run names the run, its host and process, and how often it has beaten: a thread writes it anew
 * every MARK_BEAT_S seconds while the run lives, whatever its other threads do. A run that finds a mark
 *
 *   takes it over at once    when the process is of this boot and space of process numbers and is gone, or is
 *                            an earlier start of the same Slurm job;
 *   watches it               else, for MARK_WATCH_S by its own clock. One that changes is alive, and the run is
 *                            refused; one that does not is stale, and taken over.
 *
 * Clocks of two hosts are never compared. A run that was stopped for longer finds another's mark before it
 * renames anything (mark_check()), and ends. */
#ifndef CKPT_MARK_H
#define CKPT_MARK_H

#include <stdbool.h>

#define MARK_FILE ".moekit-run"
enum { MARK_BEAT_S = 3, MARK_WATCH_S = 30 };

struct mark;

/* Makes root where it is missing, and marks it for the run with this id. NULL with error(), status 3:
 * another run writes there. While it watches it says so, and calls waiting() (or NULL) several times a
 * second. */
struct mark *mark_take(const char *root, const char *run, void (*waiting)(void));
/* 0, or -1 (status 3) when the mark is no longer this run's. */
int mark_check(const struct mark *m);
/* Before a save is written. A mark that vanished with its directory, which is there again, is made anew: 0.
 * -1, status 3: it cannot be; or *lost, it is another run's, and this one is to end. */
int mark_keep(const struct mark *m, bool *lost);
/* Removes the mark if it is still this run's. NULL is fine. */
void mark_release(struct mark *m);

#endif

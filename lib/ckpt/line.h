/* SPDX-License-Identifier: MIT */
/* Lines of descent: which steps of a root a run wrote or came from.
 *
 * A run is one start of moe-train; its id is 16 hexadecimal digits drawn at random. A checkpoint's
 * state.json says which run wrote it, and from which steps of which runs that one came, the latest first:
 *
 *   "run": "5f0c…", "line": [{"run": "91ab…", "until": 300}, {"run": "", "until": 200}]
 *
 * Here 91ab… went to step 300 or beyond, and 5f0c… went on from there. Checkpoints from before there were
 * ids count as one run, called "". So step 250 of 91ab… is of this line, and its step 400 is of a branch
 * that this line abandoned. */
#ifndef CKPT_LINE_H
#define CKPT_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

enum { RUN_ID = 17 }; /* bytes, with the NUL */

struct ancestor {
    char run[RUN_ID];
    int64_t until; /* the last of its steps that is of the line */
};

struct line {
    char run[RUN_ID];
    struct ancestor *from; /* the latest first */
    int count;
};

/* A new id into buf. */
void run_id_draw(char id[static RUN_ID]);
/* The run `id` goes on from `step`, which the run of `l` wrote: l becomes its line. (One that comes from
 * nothing has the line {.run = id}.) */
void line_continue(struct line *l, int64_t step, const char *id);
/* Whether step `step` of `run` is of the line. */
bool line_has(const struct line *l, const char *run, int64_t step);
/* "run" and "line" of state.json. line_read(): what it does not have is older than run ids. -1, status 2:
 * they are not what is said above. */
void line_write(const struct line *l, json_t *state);
int line_read(struct line *l, const struct json_doc *state);
void line_release(struct line *l);

#endif

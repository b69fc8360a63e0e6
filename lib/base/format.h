/* SPDX-License-Identifier: MIT */
/* JSON files that grow: how a file of a later moekit tells an earlier one whether it may be read. One rule,
 * told to users in VERSIONS of moe-checkpoint(5) and moe-steplog(5):
 *
 *   {"moekit": 1, "needs": ["huge-steps"], …}      (the log's start record: "format")
 *
 * - The version is an integer; a file that names none has version 1. It rises only when something that is there
 *   changes its meaning, so a higher one is refused. Additions do not raise it.
 * - What a reader does not know it passes over.
 * - Except what "needs" names: an addition without which the rest would be misread. A reader refuses the file
 *   when it does not know one of these names. A writer names a feature only in files that use it.
 *
 * To add a member: write and read it; its absence means what was done before. If an older program must not pass
 * over it, give it a name in format.c's table and let the writer put that into "needs". (A plan, and the recipe
 * in state.json, are contracts: there nothing unknown is passed over, and nothing needs a mark.) */
#ifndef BASE_FORMAT_H
#define BASE_FORMAT_H

#include "base/json.h"

enum {
    FORMAT_FEATURES = 8,
    FORMAT_WHY = 160, /* bytes of a reason */
};

struct format {
    const char *key;                       /* the member that holds the version */
    int version;                           /* the one that is written; any up to it is read */
    const char *features[FORMAT_FEATURES]; /* of "needs", those that this program knows */
};
extern const struct format manifest_format, state_format, log_format, timeline_format;

/* Whether this program may not read what `o` describes: then the member in the way, and what is wrong with it
 * ("is 2, …"). */
bool format_refuses(const struct format *f, const json_t *o, const char **key, char why[static FORMAT_WHY]);
/* The same of a document: -1 with error(), status 2, file:line:column. */
int format_check(const struct format *f, const struct json_doc *d);

#endif

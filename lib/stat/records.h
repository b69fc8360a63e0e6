/* SPDX-License-Identifier: MIT */
/* Records of a step log that are no steps: start, eval, save, fault and end. */
#ifndef STAT_RECORDS_H
#define STAT_RECORDS_H

#include <jansson.h>

#include "stat/steplog.h"

enum record_kind {
    RECORD_NONE,    /* no record */
    RECORD_UNKNOWN, /* of a kind that a later version may have added: passed over */
    RECORD_START,
    RECORD_EVAL,
    RECORD_SAVE,
    RECORD_FAULT,
    RECORD_END,
};

/* An object, or NULL. Bytes that are not UTF-8 (of a writer that did not care) are replaced. */
json_t *record_load(const char *text, size_t bytes);
enum record_kind record_kind(const json_t *r); /* NULL: RECORD_NONE */
/* Adds it to the log. -1 with error(): a start record that this program may not read, and so
 * nothing after it. */
int record_apply(struct steplog *log, const json_t *r, const char *path, size_t line);

#endif

/* SPDX-License-Identifier: MIT */
#include "comm/agree.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "comm/host.h"

/* The largest of all is the worst status and, of the ranks that have it, the lowest with a text: after an
 * agreement inside of this one only that rank has any. A failure that nobody has called error() for must not
 * pass for none. */
static int64_t outcome(const struct comm *c, int r)
{
    if (r < 0 && error_status() == STATUS_DONE)
        error(STATUS_ENV, "something has failed, and it is not known what");
    return r < 0 ? (int64_t)error_status() << 32 | (*error_text() ? INT32_MAX - comm_rank(c) : 0) : 0;
}

int comm_agree(struct comm *c, int r, bool *agreed)
{
    if (comm_fault(c)) /* nobody can be agreed with any more */
        return -1;
    int64_t mine = outcome(c, r), worst = mine;
    if (host_max(comm_world(c), &worst) < 0)
        return -1;
    if (worst == 0)
        return 0;
    if (agreed)
        *agreed = true;
    return worst == mine ? -1 : error((enum status)(worst >> 32), "%s", "");
}

int comm_share_text(struct comm *c, int r, char **text, size_t *bytes, bool *agreed)
{
    bool first = comm_rank(c) == 0;
    int64_t n = !first || r < 0 || !*text ? 0 : bytes ? (int64_t)*bytes : (int64_t)strlen(*text);
    TRY(comm_agree(c, first ? r : 0, agreed));
    TRY(host_broadcast(comm_world(c), 0, &n, sizeof n));
    if (!first)
        *text = xcalloc((size_t)n + 1, 1);
    else if (!*text)
        *text = xstrdup("");
    if (n)
        TRY(host_broadcast(comm_world(c), 0, *text, (size_t)n));
    if (bytes)
        *bytes = (size_t)n;
    return 0;
}

int comm_hear(struct comm *c, int r, struct heard *h)
{
    *h = (struct heard){0};
    int64_t worst = outcome(c, r);
    if (r < 0)
        snprintf(h->text, sizeof h->text, "%s", error_text());
    if (host_max(comm_world(c), &worst) < 0)
        return -1;
    if (worst == 0)
        return 0;
    int64_t speaker = worst & INT32_MAX;
    h->status = (enum status)(worst >> 32);
    h->rank = speaker ? (int)(INT32_MAX - speaker) : 0;
    TRY(host_broadcast(comm_world(c), h->rank, h->text, sizeof h->text));
    error_clear();
    return 1;
}

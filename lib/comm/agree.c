/* SPDX-License-Identifier: MIT */
#include "comm/agree.h"

#include "base/error.h"

int comm_agree(struct comm *c, int r, bool *agreed)
{
    if (comm_fault(c)) /* nobody can be agreed with any more */
        return -1;
    /* The largest of all is the worst status and, of the ranks that have it, the lowest with a text: after an
     * agreement inside of this one only that rank has any. */
    int64_t mine = 0;
    if (r < 0)
        mine = (int64_t)error_status() << 32 | (*error_text() ? INT32_MAX - comm_rank(c) : 0);
    int64_t worst = mine;
    if (host_max(comm_world(c), &worst) < 0)
        return -1;
    if (worst == 0)
        return 0;
    if (agreed)
        *agreed = true;
    return worst == mine ? -1 : error((enum status)(worst >> 32), "%s", "");
}

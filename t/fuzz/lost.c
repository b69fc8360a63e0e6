/* SPDX-License-Identifier: MIT */
/* What names lost ranks: step logs with faults, reports of health, files of hosts. */
#include <stdio.h>
#include <string.h>

#include "choose/lost.h"
#include "fuzz/fuzz.h"

enum { RANKS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct coords ranks[RANKS] = {{0}};
    struct plan p = {.world = RANKS, .ranks = ranks};
    char what[64];
    const char *path = memory_file(data, size);
    for (int i = 0; i < RANKS; i++)
        ranks[i].node = i / 4;
    snprintf(what, sizeof what, "@%s", path);
    for (int i = 0; i < 3; i++) {
        struct lost l;
        struct rank_places s = {0};
        int marked = 0;
        if (i)
            (void)(i == 1 ? places_of_nodes(&s, path, &p) : places_read(&s, path, RANKS));
        int rc = lost_parse(&l, &p, i == 1 ? "host:node2" : what, i ? &s : NULL);
        places_release(&s);
        if (rc < 0)
            continue;
        for (int r = 0; r < RANKS; r++)
            marked += l.rank[r];
        MUST(marked == l.count && marked < RANKS);
        lost_release(&l);
    }
    return 0;
}

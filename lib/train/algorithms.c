/* SPDX-License-Identifier: MIT */
#include "train/algorithms.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "ckpt/names.h"
#include "comm/host.h"
#include "train/truth.h"

/* Bytes of the two lines that say what a text is for. */
static size_t head_of(const char *text)
{
    size_t n = strcspn(text, "\n");
    return n + strcspn(text + n + (text[n] == '\n'), "\n");
}

/* Rank 0 learns of the others', one after the other. */
static int merge(struct run *run, const char *mine, const char *all, size_t each)
{
    size_t head = head_of(mine);
    for (int i = 1; i < comm_size(run->comm); i++) {
        const char *its = all + (size_t)i * each;
        if (head_of(its) == head && strncmp(its, mine, head) == 0)
            TRY(run->be->use_algorithms(its));
    }
    return 0;
}

int algorithms_gather(struct run *run, char **text)
{
    char *mine = run->be->algorithms();
    int64_t most = mine ? (int64_t)strlen(mine) + 1 : 0;
    bool first = run_is_first(run);
    *text = NULL;
    int r = host_max(comm_world(run->comm), &most);
    if (r == 0 && most > 0) {
        char *padded = xcalloc((size_t)most, 1);
        char *all = first ? xcalloc((size_t)most, (size_t)comm_size(run->comm)) : NULL;
        strcpy(padded, mine ? mine : "");
        r = host_gather(comm_world(run->comm), padded, (size_t)most, all);
        if (r == 0)
            r = run_agree(run, first && mine ? merge(run, mine, all, (size_t)most) : 0);
        free(all);
        free(padded);
    }
    free(mine);
    if (r == 0 && first)
        *text = run->be->algorithms();
    return r;
}

int algorithms_take(struct run *run, const char *dir)
{
    char *path = path_join(dir, ALGORITHMS_FILE), *text = NULL;
    bool read = run_is_first(run) && file_exists(path);
    if (read)
        text = file_read(path, MAX_ALGORITHMS_BYTES, NULL);
    int r = truth_send(run, read && !text ? -1 : 0, &text, NULL);
    if (r == 0) {
        int used = *text ? run->be->use_algorithms(text) : 0;
        if (used < 0)
            error_prefix("%s", path);
        r = run_agree(run, used);
    }
    free(text);
    free(path);
    return r;
}

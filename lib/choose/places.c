/* SPDX-License-Identifier: MIT */
#include "choose/places.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"

#define MAX_PLACES_BYTES ((size_t)1 << 30)

static const char blank[] = " \t\r";

/* Cuts the next line that has words off *at, and its first `most` words: how many it has; 0: no line is left. */
static int next_line(char **at, char *word[], int most)
{
    int n = 0;
    while (n == 0 && **at) {
        char *end = *at + strcspn(*at, "\n"), *next = *end ? end + 1 : end, *w = *at;
        *end = '\0';
        *at = next;
        while (n < most && *(w += strspn(w, blank)) && *w != '#') {
            word[n++] = w;
            w += strcspn(w, blank);
            if (*w)
                *w++ = '\0';
        }
    }
    return n;
}

static int open_file(struct places *s, const char *path, int ranks)
{
    size_t bytes;
    *s = (struct places){.count = ranks, .text = file_read(path, MAX_PLACES_BYTES, &bytes)};
    if (!s->text)
        return -1;
    s->of = xcalloc((size_t)ranks, sizeof *s->of);
    return 0;
}

int places_read(struct places *s, const char *path, int ranks)
{
    char *word[3];
    int n, r = 0;
    TRY(open_file(s, path, ranks));
    char *at = s->text;
    for (; (n = next_line(&at, word, 3)) > 0; r++) {
        int64_t local = 0;
        bool good = n == 2 && parse_int(word[1], 0, INT32_MAX, &local);
        if (good && r < ranks)
            s->of[r] = (struct place){word[0], local};
        if (good)
            continue;
        error(STATUS_USAGE, "%s: rank %d: a line is 'HOST NUMBER', where the rank is", path, r);
        places_release(s);
        return -1;
    }
    if (r == ranks)
        return 0;
    error(STATUS_USAGE, "%s: has places of %d ranks, the plan has %d", path, r, ranks);
    places_release(s);
    return -1;
}

int places_of_nodes(struct places *s, const char *path, const struct plan *p)
{
    char *word[1];
    int nodes = 0;
    TRY(open_file(s, path, p->world));
    for (int r = 0; r < p->world; r++)
        nodes = (int)max64(nodes, p->ranks[r].node + 1);
    const char **host = xcalloc((size_t)nodes, sizeof *host);
    int *count = xcalloc((size_t)nodes, sizeof *count), node = 0;
    for (char *at = s->text; node < nodes && next_line(&at, word, 1) > 0; node++)
        host[node] = word[0];
    for (int r = 0; r < p->world; r++) {
        int at = p->ranks[r].node;
        s->of[r] = (struct place){host[at] ? host[at] : "", count[at]++};
    }
    free(host);
    free(count);
    return 0;
}

void places_release(struct places *s)
{
    free(s->of);
    free(s->text);
    *s = (struct places){0};
}

void places_write(const struct places *s, const int *was, int ranks, FILE *f)
{
    for (int r = 0; r < ranks; r++)
        fprintf(f, "%s %" PRId64 "\n", s->of[was[r]].host, s->of[was[r]].local);
}

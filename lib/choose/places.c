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

/* Cuts the next line that has words off *at, and its first `most` words: how many it has; 0: none is left. */
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

static int take_place(struct place *p, char *word[], int words)
{
    if (words != 2 || strlen(word[0]) >= HOST_NAME || !parse_int(word[1], 0, INT32_MAX, &p->local))
        return -1;
    snprintf(p->host, HOST_NAME, "%s", word[0]);
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = *(const struct place *const *)a, *y = *(const struct place *const *)b;
    int c = strcmp(x->host, y->host);
    return c ? c : (x->local > y->local) - (x->local < y->local);
}

/* A list with a line a rank in the place of one with a line a node names hosts twice, as does one that was put
 * together by hand. */
static int check_apart(const struct rank_places *s, int ranks)
{
    int rc = 0;
    const struct place **sorted = xcalloc((size_t)ranks, sizeof *sorted);
    for (int r = 0; r < ranks; r++)
        sorted[r] = &s->of[r];
    qsort(sorted, (size_t)ranks, sizeof *sorted, by_place);
    for (int i = 1; i < ranks && rc == 0; i++)
        if (by_place(&sorted[i - 1], &sorted[i]) == 0)
            rc = error(STATUS_USAGE, "ranks %d and %d would both be number %" PRId64 " on host '%s'",
                       (int)min64(sorted[i - 1] - s->of, sorted[i] - s->of),
                       (int)max64(sorted[i - 1] - s->of, sorted[i] - s->of), sorted[i]->local, sorted[i]->host);
    free(sorted);
    return rc;
}

int places_read(struct rank_places *s, const char *path, int ranks)
{
    size_t bytes;
    char *text = file_read(path, MAX_PLACES_BYTES, &bytes), *at = text, *word[3];
    struct place one;
    int n, r = 0, rc = 0;
    if (!text)
        return -1;
    s->of = xcalloc((size_t)ranks, sizeof *s->of);
    for (; rc == 0 && (n = next_line(&at, word, 3)) > 0; r++)
        if (take_place(r < ranks ? &s->of[r] : &one, word, n) < 0)
            rc = error(STATUS_USAGE, "%s: rank %d: a line is 'HOST NUMBER', where the rank is", path, r);
    if (rc == 0 && r != ranks)
        rc = error(STATUS_USAGE, "%s: has places of %d ranks, the plan has %d", path, r, ranks);
    if (rc == 0 && check_apart(s, ranks) < 0)
        rc = error_prefix("%s", path);
    free(text);
    if (rc < 0)
        places_release(s);
    return rc;
}

static int node_count(const struct plan *p)
{
    int64_t nodes = 0;
    for (int r = 0; r < p->world; r++)
        nodes = max64(nodes, p->ranks[r].node + 1);
    return (int)nodes;
}

int places_of_nodes(struct rank_places *s, const char *path, const struct plan *p)
{
    size_t bytes;
    char *text = file_read(path, MAX_PLACES_BYTES, &bytes), *at = text, *word[1];
    int nodes = node_count(p), n = 0;
    if (!text)
        return -1;
    const char **host = xcalloc((size_t)nodes, sizeof *host);
    while (n < nodes && next_line(&at, word, 1) > 0)
        host[n++] = word[0];
    int rc = places_on(s, p, host, n);
    free(host);
    free(text);
    return rc < 0 ? error_prefix("%s", path) : 0;
}

int places_on(struct rank_places *s, const struct plan *p, const char *const *host, int hosts)
{
    int nodes = node_count(p);
    if (nodes > hosts)
        return error(STATUS_USAGE, "the plan has %d nodes, and there are %d hosts", nodes, hosts);
    for (int i = 0; i < nodes; i++)
        if (strlen(host[i]) >= HOST_NAME)
            return error(STATUS_USAGE, "the name of a host has more than %d bytes", HOST_NAME - 1);
    int *count = xcalloc((size_t)nodes, sizeof *count);
    s->of = xcalloc((size_t)p->world, sizeof *s->of);
    for (int r = 0; r < p->world; r++) {
        int64_t node = p->ranks[r].node;
        snprintf(s->of[r].host, HOST_NAME, "%s", host[node]);
        s->of[r].local = count[node]++;
    }
    free(count);
    return check_apart(s, p->world);
}

void places_release(struct rank_places *s)
{
    free(s->of);
    *s = (struct rank_places){0};
}

void places_write(const struct rank_places *s, const int *was, int ranks, FILE *f)
{
    for (int r = 0; r < ranks; r++) {
        const struct place *p = &s->of[was ? was[r] : r];
        fprintf(f, "%s %" PRId64 "\n", p->host, p->local);
    }
}

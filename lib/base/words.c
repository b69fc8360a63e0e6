/* SPDX-License-Identifier: MIT */
#include "base/words.h"

#include <stdio.h>
#include <string.h>

static const char *row(const struct words *w, int i)
{
    return *(const char *const *)((const char *)w->first + (size_t)i * w->stride);
}

const char *word_at(const struct words *w, int i)
{
    for (int k = 0; k <= i; k++)
        if (!row(w, k))
            return NULL;
    return i < 0 ? NULL : row(w, i);
}

int word_index(const struct words *w, const char *text)
{
    for (int i = 0; row(w, i); i++)
        if (strcmp(row(w, i), text) == 0)
            return i;
    return -1;
}

char *words_text(const struct words *w, char *buf, size_t room)
{
    size_t used = 0;
    *buf = '\0';
    for (int i = 0; row(w, i) && used < room; i++) {
        const char *before = i == 0 ? "" : row(w, i + 1) ? ", " : " or ";
        used += (size_t)snprintf(buf + used, room - used, "%s%s", before, row(w, i));
    }
    return buf;
}

#define LONGEST 32

/* Edits between two words of at most LONGEST letters, swaps of neighbours too (optimal string alignment). */
static int edits(const char *a, int n, const char *b, int m)
{
    int d[LONGEST + 1][LONGEST + 1];
    for (int i = 0; i <= n; i++)
        for (int j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[i][j] = i + j;
                continue;
            }
            int least = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            int gap = 1 + (d[i - 1][j] < d[i][j - 1] ? d[i - 1][j] : d[i][j - 1]);
            d[i][j] = gap < least ? gap : least;
            bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            if (swapped && d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    return d[n][m];
}

int word_distance(const char *text, const char *word)
{
    size_t n = strlen(text), m = strlen(word);
    if (n > LONGEST || m > LONGEST)
        return -1;
    int d = edits(text, (int)n, word, (int)m);
    return d <= (m > 5 ? 2 : m > 1) ? d : -1;
}

bool words_near(const struct words *w, const char *text, const char *prefix, char *buf, size_t room)
{
    int least = LONGEST;
    size_t used = 0;
    *buf = '\0';
    for (int i = 0; row(w, i); i++) {
        int d = word_distance(text, row(w, i));
        if (d < 0 || d > least || used >= room)
            continue;
        if (d < least)
            used = 0;
        least = d;
        used += (size_t)snprintf(buf + used, room - used, "%s%s%s", used ? " or " : "", prefix, row(w, i));
    }
    return *buf != '\0';
}

bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

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

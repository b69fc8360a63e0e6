/* SPDX-License-Identifier: MIT */
#include "base/ranges.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/num.h"

enum { MOST = 1 << 20 };

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

/* One number at *p, which moves past it. -1 when there is none or it is out of bounds. */
static int number(const char **p, int min, int max, int *value)
{
    int64_t n;
    char digits[16];
    size_t length = strspn(*p, "0123456789");
    if (length >= sizeof digits)
        return -1;
    memcpy(digits, *p, length);
    digits[length] = '\0';
    if (!parse_int(digits, min, max, &n))
        return -1;
    *p += length;
    *value = (int)n;
    return 0;
}

static int check_repeats(const int *values, int count, const char *text, const char *what)
{
    int repeated = -1;
    int *sorted = xmalloc(sizeof *sorted * (size_t)count);
    memcpy(sorted, values, sizeof *sorted * (size_t)count);
    qsort(sorted, (size_t)count, sizeof *sorted, ascending);
    for (int i = 1; i < count && repeated < 0; i++)
        if (sorted[i] == sorted[i - 1])
            repeated = sorted[i];
    free(sorted);
    return repeated < 0 ? 0 : error(STATUS_USAGE, "%s %d is twice in '%.200s'", what, repeated, text);
}

/* Appends FIRST…LAST. */
static int append(int **values, int *count, int first, int last)
{
    if (last - first >= MOST - *count)
        return -1;
    *values = xrealloc(*values, (size_t)(*count + last - first + 1), sizeof **values);
    for (int n = 0; n <= last - first; n++)
        (*values)[(*count)++] = first + n;
    return 0;
}

static int parse(const char *text, int min, int max, const char *what, int **values, int *count)
{
    for (const char *p = text;; p++) {
        int first, last;
        const char *item = p;
        if (number(&p, min, max, &first) < 0)
            return error(STATUS_USAGE, "bad %s in '%.200s' at '%.20s': not a number within %d to %d", what,
                         text, item, min, max);
        last = first;
        if (*p == '-' && (p++, number(&p, min, max, &last) < 0))
            return error(STATUS_USAGE, "bad %s in '%.200s' at '%.20s': not a number within %d to %d", what,
                         text, p, min, max);
        if (last < first)
            return error(STATUS_USAGE, "bad range in '%.200s': %d-%d runs backwards", text, first, last);
        if (append(values, count, first, last) < 0)
            return error(STATUS_USAGE, "'%.200s' names more than %d numbers", text, MOST);
        if (!*p)
            return check_repeats(*values, *count, text, what);
        if (*p != ',')
            return error(STATUS_USAGE, "unexpected '%.20s' in '%.200s'", p, text);
    }
}

int ranges_parse(const char *text, int min, int max, const char *what, int **values)
{
    int count = 0;
    *values = NULL;
    if (parse(text, min, max, what, values, &count) == 0)
        return count;
    free(*values);
    *values = NULL;
    return -1;
}

char *ranges_text(const int *values, int count)
{
    /* "-2147483648-" is the longest part */
    size_t have = 0, room = 1 + (size_t)count * 12;
    char *text = xmalloc(room);
    *text = '\0';
    for (int i = 0; i < count;) {
        int end = i + 1;
        while (end < count && values[end - 1] < INT32_MAX && values[end] == values[end - 1] + 1)
            end++;
        have += (size_t)snprintf(text + have, room - have, "%s%d", i ? "," : "", values[i]);
        if (end - i > 1)
            have += (size_t)snprintf(text + have, room - have, "-%d", values[end - 1]);
        i = end;
    }
    return text;
}

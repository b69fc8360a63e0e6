/* SPDX-License-Identifier: MIT */
#include "base/num.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

void pour(int64_t *have, int64_t n, int64_t more)
{
    int64_t *sorted = xmalloc((size_t)n * sizeof *sorted), count = 0, turn = 0, first;
    memcpy(sorted, have, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    while (count < n && (count == 0 || more > sorted[count] * count || sorted[count] == sorted[count - 1]))
        more += sorted[count++];
    for (int64_t i = 0, least = sorted[count - 1]; i < n; i++)
        if (have[i] <= least)
            even_part(more, count, turn++, &first, &have[i]);
    free(sorted);
}

bool parse_int(const char *text, int64_t min, int64_t max, int64_t *value)
{
    char *end;
    if (!isdigit((unsigned char)*text) && !(*text == '-' && isdigit((unsigned char)text[1])))
        return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end || v < min || v > max)
        return false;
    *value = v;
    return true;
}

bool parse_num(const char *text, double min, double max, double *value)
{
    char *end;
    if (!*text || isspace((unsigned char)*text))
        return false;
    double v = strtod(text, &end);
    if (*end || !(v >= min && v <= max))
        return false;
    *value = v;
    return true;
}

char *human_time(double seconds, char buf[static 24])
{
    if (seconds < 60)
        snprintf(buf, 24, "%.0f s", seconds);
    else if (seconds < 3600)
        snprintf(buf, 24, "%.0f min", seconds / 60);
    else if (seconds < 2 * 86400)
        snprintf(buf, 24, "%.1f h", seconds / 3600);
    else
        snprintf(buf, 24, "%.1f days", seconds / 86400);
    return buf;
}

char *human_bytes(double bytes, char buf[static 24])
{
    static const char *const unit[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    int u = 0;
    while (fabs(bytes) >= 999.5 && u < 6) {
        bytes /= 1000;
        u++;
    }
    snprintf(buf, 24, u ? "%.3g %s" : "%.0f %s", bytes, unit[u]);
    return buf;
}

char *exact_num(double value, char buf[static 32])
{
    if (value == floor(value) && fabs(value) < 1e15) {
        snprintf(buf, 32, "%.0f", value);
        return buf;
    }
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(buf, 32, "%.*g", digits, value);
        if (strtod(buf, NULL) == value)
            break;
    }
    return buf;
}

char *figure_text(double value, char buf[static 32])
{
    if (isnan(value))
        return strcpy(buf, "null");
    if (fabs(value) < 9e15 && value == floor(value)) {
        snprintf(buf, 32, "%.0f", value == 0 ? 0 : value); /* no -0 */
        return buf;
    }
    return exact_num(value, buf);
}

/* SPDX-License-Identifier: MIT */
/* Compares two runs' routing decisions, as --dump-routing PREFIX wrote them to PREFIX.0, PREFIX.1, …
 *
 *   routing-compare MARGIN A B
 *
 * A decision is a token's set of experts in one layer. Both runs must have made the same ones, and those that
 * differ must have been close: a margin below MARGIN in both. From a close one others follow: of that token and
 * those after it in higher layers of its microbatch; and all later steps, which are then not judged. Prints how
 * many differ, and how many of these were close and followed. Exit: 0; 1 when a decision is missing, or differs
 * for neither reason; 2 for bad input. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "plan/text.h"

enum { MAX_K = 64 };

struct decision {
    int64_t step, microbatch, layer, token;
    float margin;
    int k;
    int32_t expert[MAX_K]; /* ascending */
};

struct decisions {
    struct decision *list;
    size_t count;
};

static int order(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int by_place(const void *a, const void *b)
{
    const struct decision *x = a, *y = b;
    int r = order(x->step, y->step);
    r = r ? r : order(x->microbatch, y->microbatch);
    r = r ? r : order(x->layer, y->layer);
    return r ? r : order(x->token, y->token);
}

static int by_number(const void *a, const void *b)
{
    return order(*(const int32_t *)a, *(const int32_t *)b);
}

static struct decision *add(struct decisions *d)
{
    if ((d->count & (d->count + 1)) == 0)
        d->list = xrealloc(d->list, 2 * d->count + 2, sizeof *d->list);
    return &d->list[d->count++];
}

/* One record: seven int64 (step, microbatch, layer, first token, tokens, experts, K), then int32
 * expert[tokens][K], float margin[tokens]. 1, 0 at the end, or -1. */
static int read_record(struct decisions *d, FILE *f, const char *path)
{
    int64_t h[7];
    size_t got = fread(h, 1, sizeof h, f);
    if (got == 0 && feof(f))
        return 0;
    if (got != sizeof h || h[4] < 1 || h[4] > 1 << 24 || h[6] < 1 || h[6] > MAX_K)
        return error(STATUS_USAGE, "%s: not a routing dump, or cut off", path);
    size_t first = d->count, n = (size_t)h[4], k = (size_t)h[6];
    for (size_t t = 0; t < n; t++) {
        struct decision *x = add(d);
        *x = (struct decision){
            .step = h[0], .microbatch = h[1], .layer = h[2], .token = h[3] + (int64_t)t, .k = (int)k};
        if (fread(x->expert, sizeof *x->expert, k, f) != k)
            return error(STATUS_USAGE, "%s: cut off", path);
        qsort(x->expert, k, sizeof *x->expert, by_number);
    }
    for (size_t t = 0; t < n; t++)
        if (fread(&d->list[first + t].margin, sizeof(float), 1, f) != 1)
            return error(STATUS_USAGE, "%s: cut off", path);
    return 1;
}

static int read_all(struct decisions *d, const char *prefix)
{
    for (int rank = 0;; rank++) {
        char *path = xasprintf("%s.%d", prefix, rank);
        FILE *f = fopen(path, "rb");
        int r = f || rank ? 0 : error_errno("cannot read '%s'", path);
        while (f && (r = read_record(d, f, path)) > 0)
            ;
        free(path);
        if (f)
            fclose(f);
        if (r < 0 || !f) {
            qsort(d->list, d->count, sizeof *d->list, by_place);
            return r;
        }
    }
}

/* A decision that differed, in the microbatch that is looked at: what may follow from it. */
struct root {
    int64_t step, microbatch, layer, token;
};

static bool follows(const struct decision *x, const struct root *roots, size_t count)
{
    for (size_t i = count; i-- > 0;) {
        const struct root *r = &roots[i];
        if (r->step != x->step || r->microbatch != x->microbatch)
            return false;
        if (r->layer < x->layer && r->token <= x->token)
            return true;
    }
    return false;
}

static float wider(const struct decision *x, const struct decision *y)
{
    return x->margin > y->margin ? x->margin : y->margin;
}

/* The two runs' decisions, place by place. 0 when all is well, else 1. */
static int compare(const struct decisions *a, const struct decisions *b, float close)
{
    size_t differ = 0, were_close = 0, followed = 0, bad = 0, count = 0;
    struct root *roots = NULL;
    if (a->count != b->count || a->count == 0) {
        printf("%zu decisions and %zu\n", a->count, b->count);
        return 1;
    }
    for (size_t i = 0; i < a->count; i++) {
        const struct decision *x = &a->list[i], *y = &b->list[i];
        if (by_place(x, y) != 0 || x->k != y->k) {
            printf("decision %zu is one of step %" PRId64 " layer %" PRId64 " in one run only\n", i, x->step,
                   x->layer);
            bad++;
            break;
        }
        if (memcmp(x->expert, y->expert, (size_t)x->k * sizeof *x->expert) == 0)
            continue;
        differ++;
        bool is_close = wider(x, y) < close;
        if (is_close)
            were_close++;
        else if (follows(x, roots, count) || (count && roots[0].step < x->step))
            followed++;
        else if (bad++ == 0)
            printf("step %" PRId64 ", microbatch %" PRId64 ", layer %" PRId64 ", token %" PRId64
                   ": other experts, by a margin of %g\n",
                   x->step, x->microbatch, x->layer, x->token, (double)wider(x, y));
        if ((count & (count + 1)) == 0)
            roots = xrealloc(roots, 2 * count + 2, sizeof *roots);
        roots[count++] = (struct root){x->step, x->microbatch, x->layer, x->token};
    }
    printf("%zu decisions, %zu differ: %zu close, %zu followed\n", a->count, differ, were_close, followed);
    free(roots);
    return bad != 0;
}

int main(int argc, char **argv)
{
    struct decisions a = {0}, b = {0};
    double close;
    if (argc != 4 || !parse_num(argv[1], 0, 1, &close)) {
        fprintf(stderr, "usage: routing-compare MARGIN A B\n");
        return STATUS_USAGE;
    }
    if (read_all(&a, argv[2]) < 0 || read_all(&b, argv[3]) < 0) {
        fprintf(stderr, "routing-compare: %s\n", error_text());
        return error_status();
    }
    int r = compare(&a, &b, (float)close);
    free(a.list);
    free(b.list);
    return r;
}

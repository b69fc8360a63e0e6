/* SPDX-License-Identifier: MIT */
#include "ckpt/diff.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "tensors/convert.h"
#include "tensors/hfdir.h"

#define CHUNK ((int64_t)1 << 20) /* numbers */

struct side {
    struct hf_dir dir;
    char *raw;
    float *numbers;
};

struct differ {
    struct diff *out;
    struct side a, b;
    const char *prefix;
    double tolerance;
};

/* Sums of one tensor. */
struct sums {
    double max_abs, difference, norm;
    bool same, nan;
};

static struct tensor_diff *add(struct differ *d, const char *name, enum diff_kind kind)
{
    struct diff *o = d->out;
    if ((o->count & (o->count + 1)) == 0)
        o->list = xrealloc(o->list, 2 * (size_t)o->count + 2, sizeof *o->list);
    struct tensor_diff *t = &o->list[o->count++];
    *t = (struct tensor_diff){.name = xasprintf("%s%s", d->prefix, name), .kind = kind, .beyond = true};
    t->max_abs = t->relative = kind == DIFF_VALUES ? 0 : INFINITY;
    return t;
}

static int read_numbers(struct side *s, int file, const struct st_tensor *t, int64_t first, int64_t count)
{
    enum number n = number_of(t->dtype);
    if (hf_read(&s->dir, file, s->raw, count * number_bytes(n), t->begin + first * number_bytes(n)) < 0)
        return -1;
    convert(s->numbers, F32, s->raw, n, count);
    return 0;
}

static void compare(struct sums *s, const float *a, const float *b, int64_t count)
{
    double difference = 0, norm = 0, most = s->max_abs;
    bool nan = false;
    for (int64_t i = 0; i < count; i++) {
        double x = a[i], y = b[i], e = x == y ? 0 : x - y; /* equal infinities differ by nothing */
        difference += e * e;
        norm += y * y;
        nan |= isnan(x) || isnan(y);
        most = fabs(e) > most ? fabs(e) : most;
    }
    s->same &= memcmp(a, b, count * sizeof *a) == 0;
    s->difference += difference;
    s->norm += norm;
    s->max_abs = most;
    s->nan |= nan;
}

/* Types that are not converted: bytes are all that can be compared. */
static int compare_bytes(struct differ *d, const struct st_tensor *x, int fx, const struct st_tensor *y, int fy,
                         struct sums *s)
{
    int64_t bytes = x->end - x->begin;
    for (int64_t done = 0; done < bytes;) {
        int64_t n = min64(4 * CHUNK, bytes - done);
        if (hf_read(&d->a.dir, fx, d->a.raw, n, x->begin + done) < 0 ||
            hf_read(&d->b.dir, fy, d->b.raw, n, y->begin + done) < 0)
            return -1;
        s->same &= memcmp(d->a.raw, d->b.raw, n) == 0;
        done += n;
    }
    if (!s->same)
        s->max_abs = s->difference = INFINITY;
    return 0;
}

static int compare_tensor(struct differ *d, const struct st_tensor *x, int fx, const struct st_tensor *y,
                          int fy)
{
    struct sums s = {.same = true};
    bool number = number_of(x->dtype) != NUMBER_OTHER && number_of(y->dtype) != NUMBER_OTHER;
    int64_t count = number ? (x->end - x->begin) / number_bytes(number_of(x->dtype)) : 0;
    if (x->dims != y->dims || memcmp(x->shape, y->shape, x->dims * sizeof *x->shape) != 0 ||
        (!number && strcmp(x->dtype, y->dtype) != 0)) {
        add(d, x->name, DIFF_SHAPE);
        return 0;
    }
    if (!number && compare_bytes(d, x, fx, y, fy, &s) < 0)
        return -1;
    for (int64_t done = 0; done < count; done += CHUNK) {
        int64_t n = min64(CHUNK, count - done);
        if (read_numbers(&d->a, fx, x, done, n) < 0 || read_numbers(&d->b, fy, y, done, n) < 0)
            return -1;
        compare(&s, d->a.numbers, d->b.numbers, n);
    }
    if (s.same && !s.nan)
        return 0;
    struct tensor_diff *t = add(d, x->name, DIFF_VALUES);
    t->max_abs = s.nan ? NAN : s.max_abs;
    t->relative = s.nan ? NAN : s.difference == 0 ? 0 : sqrt(s.difference / s.norm);
    t->same = false;
    t->beyond = d->tolerance > 0 ? !(t->relative <= d->tolerance) : true;
    return 0;
}

static int diff_names(struct differ *d)
{
    struct hf_dir *a = &d->a.dir, *b = &d->b.dir;
    for (int i = 0, k = 0; i < a->name_count || k < b->name_count;) {
        int order = i == a->name_count   ? 1
                    : k == b->name_count ? -1
                                         : strcmp(a->names[i].name, b->names[k].name);
        d->out->tensors++;
        if (order < 0) {
            add(d, a->names[i++].name, DIFF_ONLY_A);
            continue;
        }
        if (order > 0) {
            add(d, b->names[k++].name, DIFF_ONLY_B);
            continue;
        }
        int fx, fy;
        bool failed;
        const char *name = a->names[i].name;
        const struct st_tensor *x = hf_find(a, name, &fx, &failed);
        const struct st_tensor *y = x ? hf_find(b, name, &fy, &failed) : NULL;
        if (!y || compare_tensor(d, x, fx, y, fy) < 0)
            return -1;
        i++, k++;
        progress("comparing", d->out->tensors, max64(a->name_count, b->name_count), "tensors");
    }
    return 0;
}

static int diff_pair(struct differ *d, const char *a, const char *b, const char *folder)
{
    char *x = folder ? path_join(a, folder) : xstrdup(a), *y = folder ? path_join(b, folder) : xstrdup(b);
    int rc = steps_refuse_root(x) < 0 || steps_refuse_root(y) < 0 ? -1 : hf_open(&d->a.dir, x);
    if (rc == 0) {
        rc = hf_open(&d->b.dir, y);
        if (rc == 0) {
            hf_say_unread(&d->a.dir);
            hf_say_unread(&d->b.dir);
            rc = diff_names(d);
            hf_close(&d->b.dir);
        }
        hf_close(&d->a.dir);
    }
    free(x);
    free(y);
    return rc;
}

static int worst_first(const void *a, const void *b)
{
    const struct tensor_diff *x = a, *y = b;
    double p = isnan(x->relative) ? INFINITY : x->relative, q = isnan(y->relative) ? INFINITY : y->relative;
    if (x->kind != y->kind)
        return x->kind > y->kind ? -1 : 1;
    if (p != q)
        return p > q ? -1 : 1;
    return strcmp(x->name, y->name);
}

int diff_dirs(struct diff *out, const char *a, const char *b, double tolerance, bool optimizer)
{
    *out = (struct diff){0};
    struct differ d = {.out = out, .prefix = "", .tolerance = tolerance};
    struct side *sides[] = {&d.a, &d.b};
    for (int i = 0; i < 2; i++) {
        sides[i]->raw = xmalloc(4 * CHUNK);
        sides[i]->numbers = xmalloc(CHUNK * sizeof(float));
    }
    int rc = diff_pair(&d, a, b, NULL);
    d.prefix = OPTIMIZER_DIR "/";
    if (rc == 0 && optimizer)
        rc = diff_pair(&d, a, b, OPTIMIZER_DIR);
    progress_end();
    for (int i = 0; i < 2; i++) {
        free(sides[i]->raw);
        free(sides[i]->numbers);
    }
    for (int i = 0; i < out->count; i++)
        out->beyond += out->list[i].beyond;
    if (out->count)
        qsort(out->list, out->count, sizeof *out->list, worst_first);
    if (rc < 0)
        diff_release(out);
    return rc;
}

void diff_release(struct diff *d)
{
    for (int i = 0; i < d->count; i++)
        free(d->list[i].name);
    free(d->list);
    *d = (struct diff){0};
}

/* SPDX-License-Identifier: MIT */
/* usage: sizes [-b BACKEND] [-t TWIN] [-n THREADS] [-s ROWS,WIDTH] [-l SECONDS] [NAME…]
 *
 * Runs the problems of sizes_*.c on BACKEND (cuda) and on TWIN (cpu), and prints TAP: a line a problem and
 * type, with how many numbers were compared and how near the worst of them came to what is allowed (1). What
 * does not fit into the device's memory is skipped, and so is what would begin after -l SECONDS. -s divides all
 * rows and widths, for machines that are slow. NAMEs are beginnings of problems' names. Without them every
 * operation of the table must have been called at the end. */
#include "gpu/sizes.h"

#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/process.h"
#include "number.h"

enum { MOST = 64, WINDOW = 1 << 22 /* elements of a row's width: about so many in a window */ };

struct shown {
    const void *p;
    int64_t planes, width;
};

/* What one problem has come to. */
struct judge {
    struct {
        void *p;
        size_t bytes;
        uint64_t whole; /* the number of a tensor that every window has; 0 */
    } block[2][MOST];   /* of the device and of the twin */
    int blocks[2];
    struct shown shown[MOST]; /* by the device, in order */
    int count, at;
    const struct side *device;
    int64_t compared, wrong;
    double worst;
    char said[256]; /* the first that is wrong */
    char what[64];  /* the worst */
    jmp_buf no_memory;
};

static const struct backend *device, *twin;
static struct backend counting; /* device, and counts its calls */
static int64_t divide_rows = 1, divide_width = 1;
static double begun, limit = INFINITY; /* seconds */

/* ---- every operation is called ---- */

#define X(op)                                                                                                  \
    static int64_t calls_##op;                                                                                 \
    static void count_##op(struct stream *s, const struct op *p)                                               \
    {                                                                                                          \
        calls_##op++;                                                                                          \
        device->op(s, p);                                                                                      \
    }
BACKEND_OPS(X)
#undef X

static int never_called(void)
{
    int never = 0;
#define X(op)                                                                                                  \
    if (calls_##op == 0) {                                                                                     \
        printf("# never called: " #op "\n");                                                                   \
        never++;                                                                                               \
    }
    BACKEND_OPS(X)
#undef X
    return never;
}

/* ---- tensors ---- */

static bool on_device(const struct side *s)
{
    return s->be == &counting;
}

static void *block_of(struct side *s, size_t bytes)
{
    struct judge *j = s->judge;
    int who = on_device(s);
    void *p = s->be->alloc(bytes);
    if (!p || j->blocks[who] == MOST)
        longjmp(j->no_memory, 1);
    j->block[who][j->blocks[who]].bytes = bytes;
    j->block[who][j->blocks[who]].whole = 0;
    j->block[who][j->blocks[who]++].p = p;
    return p;
}

/* Frees what the window has, or all that the side has. */
static void drop(struct side *s, bool all)
{
    struct judge *j = s->judge;
    int who = on_device(s), kept = 0;
    for (int i = 0; i < j->blocks[who]; i++)
        if (all || !j->block[who][i].whole)
            s->be->free(j->block[who][i].p, j->block[who][i].bytes);
        else
            j->block[who][kept++] = j->block[who][i];
    j->blocks[who] = kept;
}

static void *filled(struct side *s, int64_t first, int64_t rows, int64_t width, enum type type, double std)
{
    void *p = block_of(s, (size_t)(rows * width) * type_bytes(type));
    s->be->fill_normal(s->s,
                       &OP(fill_normal, .rows = rows, .width = width, .x = p, .ldx = width, .seed = ++s->made,
                           .first = first * width, .stride = width, .std = (float)std, .type = type));
    return p;
}

void *rows_of(struct side *s, int64_t width, enum type type, double std)
{
    return filled(s, s->first, s->rows, width, type, std);
}

/* The next window finds it as this one leaves it: where there are several, what is written to it is not
 * shown. */
void *whole_of(struct side *s, int64_t count, enum type type, double std)
{
    struct judge *j = s->judge;
    int64_t width = count % 1024 ? 1 : 1024;
    int who = on_device(s);
    for (int i = 0; i < j->blocks[who]; i++)
        if (j->block[who][i].whole == s->made + 1) {
            s->made++;
            return j->block[who][i].p;
        }
    void *p = filled(s, 0, count / width, width, type, std);
    j->block[who][j->blocks[who] - 1].whole = s->made;
    return p;
}

void *host_of(struct side *s, const void *host, size_t bytes)
{
    s->made++;
    void *p = block_of(s, bytes);
    s->be->upload(s->s, p, host, bytes);
    return p;
}

int32_t int_at(const struct side *s, int64_t i, int32_t from, int32_t below)
{
    uint64_t x = (uint64_t)i * 0x9e3779b97f4a7c15u + (s->made + 1) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 31) * 0x94d049bb133111ebu;
    return from + (int32_t)((x >> 33) % (uint64_t)below);
}

int32_t *ints_of(struct side *s, int64_t width, int32_t from, int32_t below)
{
    int64_t count = s->rows * width;
    int32_t *host = xmalloc((size_t)(count + 1) * sizeof *host);
    for (int64_t i = 0; i < count; i++)
        host[i] = int_at(s, s->first * width + i, from, below);
    int32_t *p = host_of(s, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

int32_t *zeros_of(struct side *s, int64_t count)
{
    int32_t *host = xcalloc((size_t)count + 1, sizeof *host),
            *p = host_of(s, host, (size_t)count * sizeof *host);
    free(host);
    return p;
}

/* ---- comparing ---- */

enum kind { NUMBERS, DOUBLES, INTEGERS };

static double element(const void *p, int64_t i, enum kind kind, enum type type)
{
    return kind == DOUBLES    ? ((const double *)p)[i]
           : kind == INTEGERS ? ((const int32_t *)p)[i]
                              : (double)load(p, i, type);
}

/* The largest error of `count` elements, in units of what is allowed; infinite where one is NaN and the other
 * is not. */
static double worst_of(const void *got, const void *want, int64_t count, enum kind kind, enum type type,
                       double tol, int64_t *where, int64_t *wrong)
{
    double worst = 0;
    int64_t bad = 0, at = -1;
#pragma omp parallel for reduction(+ : bad) reduction(max : worst)
    for (int64_t i = 0; i < count; i++) {
        double a = element(got, i, kind, type), b = element(want, i, kind, type);
        double error_size = fabs(a - b), allowed = tol * (1 + fabs(b));
        double share = a == b ? 0 : allowed > 0 ? error_size / allowed : INFINITY;
        share = share >= 0 ? share : INFINITY;
        bad += share > 1;
        worst = share > worst ? share : worst;
        if (share > 1) {
#pragma omp critical
            at = at < 0 || i < at ? i : at;
        }
    }
    *wrong += bad;
    *where = at;
    return worst;
}

static void judge(struct side *s, const char *what, const void *got, const void *want, int64_t count,
                  enum kind kind, enum type type, double tol)
{
    struct judge *j = s->judge;
    int64_t where, before = j->wrong;
    double worst = worst_of(got, want, count, kind, type, tol, &where, &j->wrong);
    j->compared += count;
    if (worst >= j->worst) {
        j->worst = worst;
        snprintf(j->what, sizeof j->what, "%s", what);
    }
    if (before == 0 && j->wrong > 0)
        snprintf(j->said, sizeof j->said, "%s: element %lld of rows %lld to %lld is %.9g, not %.9g", what,
                 (long long)where, (long long)s->first, (long long)(s->first + s->rows - 1),
                 element(got, where, kind, type), element(want, where, kind, type));
}

static void show_as(struct side *s, const char *what, const void *p, int64_t planes, int64_t rows,
                    int64_t width, enum kind kind, enum type type, double tol)
{
    struct judge *j = s->judge;
    size_t each = kind == DOUBLES ? 8 : kind == INTEGERS ? 4 : type_bytes(type);
    if (on_device(s)) {
        if (j->count < MOST)
            j->shown[j->count++] = (struct shown){p, planes, width};
        return;
    }
    const struct shown *d = &j->shown[j->at++];
    size_t bytes = (size_t)(rows * width) * each;
    int64_t all = rows == s->rows ? j->device->rows : rows; /* of a plane, on the device */
    char *got = xmalloc(bytes + 1);
    for (int64_t i = 0; i < planes; i++) {
        const char *from =
            (const char *)d->p + (size_t)(i * all * width + (rows == s->rows ? s->first * width : 0)) * each;
        if (device->download(j->device->s, got, from, bytes) < 0) {
            j->wrong++;
            snprintf(j->said, sizeof j->said, "%s: %s", what, error_text());
            break;
        }
        judge(s, what, got, (const char *)p + (size_t)(i * rows * width) * each, rows * width, kind, type, tol);
    }
    free(got);
}

void show(struct side *s, const char *what, const void *p, int64_t width, enum type type, double tol)
{
    show_as(s, what, p, 1, s->rows, width, NUMBERS, type, tol);
}

void show_planes(struct side *s, const char *what, const void *p, int64_t planes, int64_t width, enum type type,
                 double tol)
{
    show_as(s, what, p, planes, s->rows, width, NUMBERS, type, tol);
}

void show_ints(struct side *s, const char *what, const int32_t *p, int64_t width)
{
    show_as(s, what, p, 1, s->rows, width, INTEGERS, F32, 0);
}

/* As one row, which no window cuts. */
static void show_row(struct side *s, const char *what, const void *p, int64_t count, enum kind kind,
                     enum type type, double tol)
{
    struct side one = *s;
    if (s->rows != s->all) {
        s->judge->at++;
        return;
    }
    one.rows = -1;
    show_as(&one, what, p, 1, 1, count, kind, type, tol);
}

void show_whole(struct side *s, const char *what, const void *p, int64_t count, enum type type, double tol)
{
    show_row(s, what, p, count, NUMBERS, type, tol);
}

void show_doubles(struct side *s, const char *what, const double *p, int64_t count)
{
    show_row(s, what, p, count, DOUBLES, F32, 1e-10);
}

/* ---- a problem ---- */

static int64_t scaled(int64_t size, int64_t divide, int64_t unit)
{
    int64_t less = size / divide / unit * unit;
    return less > unit ? less : size < unit ? size : unit;
}

/* There was no memory for all of it; a device that has none for a few bytes either is broken. */
static bool skip_for_memory(int number, const char *name)
{
    char *text = xstrdup(error_text());
    void *few = device->alloc(64);
    if (few)
        printf("ok %d - %s # SKIP memory: %s\n", number, name, text);
    else
        printf("not ok %d - %s: %s\n", number, name, text);
    if (few)
        device->free(few, 64);
    error_clear();
    free(text);
    return few;
}

static struct side side_of(const struct problem *p, const struct backend *be, enum type type, struct judge *j)
{
    struct side s = {.be = be, .type = type, .n = p->n, .judge = j, .tol = type == F32 ? 2e-5 : 1.0 / 128};
    s.unit = p->unit > 1 ? scaled(p->unit, divide_rows, 16) : p->unit;
    s.width = scaled(p->width, divide_width, 16);
    s.all = s.rows = scaled(p->rows, divide_rows, s.unit > 1 ? s.unit : 1);
    s.s = be->stream_new();
    return s;
}

/* The first rows, those where the 2^31st element is or the middle, and the last; or all, if they are few. */
static int windows_of(const struct side *s, int64_t first[3], int64_t *rows)
{
    int64_t unit = s->unit, most = WINDOW / (s->width + 1) / (unit ? unit : 1) * unit;
    most = most > unit ? most : unit;
    first[0] = 0;
    *rows = s->all;
    if (unit == 0 || s->all <= 3 * most)
        return 1;
    int64_t middle = (INT64_C(1) << 31) / s->width - most / 2;
    middle = middle < most || middle + 2 * most > s->all ? s->all / 2 : middle;
    first[1] = middle / unit * unit;
    first[2] = (s->all - most) / unit * unit;
    *rows = most;
    return 3;
}

static void compare(const struct problem *p, struct side *d, struct side *t)
{
    int64_t first[3], rows;
    p->run(d);
    int count = windows_of(d, first, &rows);
    for (int i = 0; i < count; i++) {
        t->first = first[i];
        t->rows = rows < t->all - first[i] ? rows : t->all - first[i];
        t->made = 0;
        d->judge->at = 0;
        p->run(t);
        if (t->be->sync(t->s) < 0)
            fprintf(stderr, "sizes: %s\n", error_text());
        drop(t, false);
    }
}

/* Prints the problem's line. Whether it is right. */
static bool try(const struct problem *p, enum type type, int number)
{
    struct judge *j = xcalloc(1, sizeof *j);
    struct side d = side_of(p, &counting, type, j), t = side_of(p, twin, type, j);
    double start = now_s();
    bool ok = true;
    j->device = &d;
    char name[128];
    snprintf(name, sizeof name, "%s, %s, %lld rows of %lld", p->name, type == F32 ? "f32" : "bf16",
             (long long)d.all, (long long)d.width);
    if (start - begun > limit) {
        printf("ok %d - %s # SKIP time: %.0f s have passed\n", number, name, limit);
    } else if (setjmp(j->no_memory)) {
        ok = skip_for_memory(number, name);
    } else {
        compare(p, &d, &t);
        ok = j->wrong == 0 && j->compared > 0;
        printf("%sok %d - %s: %lld numbers, worst %.2g (%s), %.1f s\n", ok ? "" : "not ", number, name,
               (long long)j->compared, j->worst, j->what, now_s() - start);
        if (!ok)
            printf("# %lld wrong: %s\n", (long long)j->wrong, j->said);
    }
    fflush(stdout);
    d.be->sync(d.s);
    drop(&t, true);
    drop(&d, true);
    d.be->stream_free(d.s);
    t.be->stream_free(t.s);
    free(j);
    return ok;
}

static bool wanted(const char *name, char **names)
{
    if (!*names)
        return true;
    for (; *names; names++)
        if (strncmp(name, *names, strlen(*names)) == 0)
            return true;
    return false;
}

static const struct backend *opened(const char *name, int threads)
{
    const struct backend *be = backend_open(name, 0, threads);
    if (!be) {
        fprintf(stderr, "sizes: %s\n", error_text());
        exit(error_status());
    }
    return be;
}

int main(int argc, char **argv)
{
    const char *name = "cuda", *other = "cpu";
    int threads = (int)sysconf(_SC_NPROCESSORS_ONLN), c, number = 0, wrong = 0;
    long long by_rows = 1, by_width = 1;
    while ((c = getopt(argc, argv, "b:t:n:s:l:")) != -1)
        switch (c) {
        case 'b':
            name = optarg;
            break;
        case 't':
            other = optarg;
            break;
        case 'n':
            threads = atoi(optarg);
            break;
        case 'l':
            limit = atof(optarg);
            break;
        case 's':
            if (sscanf(optarg, "%lld,%lld", &by_rows, &by_width) == 2 && by_rows > 0 && by_width > 0)
                break; /* fall through */
        default:
            return STATUS_USAGE;
        }
    begun = now_s();
    divide_rows = by_rows;
    divide_width = by_width;
    twin = opened(other, threads);
    counting = *(device = opened(name, threads));
#define X(op) counting.op = count_##op;
    BACKEND_OPS(X)
#undef X
    const struct problem *lists[] = {sizes_layer, sizes_route, sizes_ends};
    for (size_t i = 0; i < 3; i++)
        for (const struct problem *p = lists[i]; p->name; p++)
            for (enum type type = p->bf16_only ? BF16 : F32; type <= BF16; type++)
                if (wanted(p->name, argv + optind))
                    wrong += !try(p, type, ++number);
    if (!argv[optind] && now_s() - begun <= limit) {
        int never = never_called();
        printf("%sok %d - every operation was called\n", never ? "not " : "", ++number);
        wrong += never;
    }
    printf("1..%d\n", number);
    return number == 0 ? STATUS_USAGE : wrong != 0;
}

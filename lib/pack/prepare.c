/* SPDX-License-Identifier: MIT */
#include "pack/prepare.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/words.h"
#include "ckpt/manifest.h"
#include "ckpt/names.h"
#include "ckpt/steps.h"
#include "ckpt/verify.h"
#include "pack/experts.h"
#include "pack/tree.h"
#include "plan/states.h"
#include "tensors/convert.h"
#include "tensors/sum.h"

#define PART_BYTES ((int64_t)4 << 20)
#define PIECE      ((int64_t)1 << 20)

/* ---- what kind of numbers stand where ---- */

/* Floats of 16 and 32 bits, which the codec split takes apart. */
static int width_of(const char *dtype)
{
    enum number n = number_of(dtype);
    return n == NUMBER_OTHER ? 1 : number_bytes(n);
}

/* Each state of the optimizer is spread in its own way. */
static int kind_of(const char *name)
{
    for (int s = 0; s < STATES && s + 1 < SPLIT_KINDS; s++)
        if (ends_in(name, states[s].suffix))
            return s + 1;
    return 0;
}

static void note_numbers(struct prepared_file *f, const struct st_file *st)
{
    f->numbers = xcalloc((size_t)st->count + 1, sizeof *f->numbers);
    for (int i = 0; i < st->count; i++) {
        const struct st_tensor *t = &st->tensors[i];
        struct number_range r = {st->data + t->begin, st->data + t->end, width_of(t->dtype), kind_of(t->name)};
        struct number_range *last = f->count ? &f->numbers[f->count - 1] : NULL;
        if (r.width == 1 || r.begin == r.end)
            continue;
        if (last && last->end == r.begin && last->width == r.width && last->kind == r.kind)
            last->end = r.end;
        else
            f->numbers[f->count++] = r;
    }
}

/* The first range that ends behind `at`. */
static int range_at(const struct prepared_file *f, int64_t at)
{
    int low = 0, high = f->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (f->numbers[middle].end <= at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Appends a run; what is too much for the room becomes bytes. */
static int64_t add_run(struct split_run *runs, int64_t count, int64_t most, struct split_run r)
{
    if (!r.bytes)
        return count;
    if (r.width < 4)
        r.kind = 0;
    if (count >= most - 1)
        r.width = 1, r.kind = 0;
    if (count && runs[count - 1].width == r.width && runs[count - 1].kind == r.kind) {
        runs[count - 1].bytes += r.bytes;
        return count;
    }
    runs[count] = r;
    return count + 1;
}

int64_t prepared_runs(const struct prepared *p, int file, int64_t at, int64_t n, struct split_run *runs,
                      int64_t most)
{
    const struct prepared_file *f = &p->files[file];
    int64_t count = 0;
    while (n > 0) {
        int64_t piece = n, from = packed_place(&p->index.files[file], at, &piece), end = from + piece;
        at += piece;
        n -= piece;
        for (int i = range_at(f, from); from < end; i++) {
            const struct number_range *r = i < f->count ? &f->numbers[i] : NULL;
            int64_t begin = r ? min64(max64(r->begin, from), end) : end;
            count = add_run(runs, count, most, (struct split_run){begin - from, 1});
            from = begin;
            if (!r || from == end)
                continue;
            int64_t stop = min64(r->end, end),
                    head = min64((r->width - (from - r->begin) % r->width) % r->width, stop - from);
            int64_t whole = (stop - from - head) / r->width * r->width;
            count = add_run(runs, count, most, (struct split_run){head, 1});
            count = add_run(runs, count, most, (struct split_run){whole, r->width, r->kind});
            count = add_run(runs, count, most, (struct split_run){stop - from - head - whole, 1});
            from = stop;
        }
    }
    return count;
}

/* ---- files ---- */

/* look() at the header of every file of tensors. */
static int each_header(struct prepared *p, int (*look)(struct prepared *p, int file, const struct st_file *st))
{
    int rc = 0;
    for (int i = 0; i < p->index.file_count && rc == 0; i++) {
        struct st_file st;
        if (!tree_is_safetensors(p->index.files[i].name))
            continue;
        char *path = path_join(p->request->dir, p->index.files[i].name);
        rc = st_open(&st, path);
        free(path);
        if (rc < 0)
            break;
        rc = look(p, i, &st);
        st_close(&st);
    }
    return rc;
}

static int note_header(struct prepared *p, int file, const struct st_file *st)
{
    struct packed_file *f = &p->index.files[file];
    note_numbers(&p->files[file], st);
    if (p->names)
        expert_names_of_file(p->names, st, &f->experts, &f->layers);
    return 0;
}

/* The files of a step are those of its manifest and that itself. */
static int compare_manifest(struct prepared *p, const struct manifest *m)
{
    struct pack_index *ix = &p->index;
    int listed = 0;
    for (int i = 0; i < ix->file_count; i++) {
        struct packed_file *f = &ix->files[i];
        const struct manifest_file *x = manifest_find(m, f->name);
        if (strcmp(f->name, MANIFEST_FILE) == 0)
            continue;
        if (!x)
            return error(STATUS_USAGE, "'%s' is no whole step: its manifest does not list '%s'",
                         p->request->dir, f->name);
        if (x->bytes != f->bytes)
            return error(STATUS_USAGE, "'%s' is no whole step: '%s' has %" PRId64 " bytes, not %" PRId64,
                         p->request->dir, f->name, f->bytes, x->bytes);
        f->crc32 = x->crc32;
        listed++;
    }
    if (listed != m->count)
        return error(STATUS_USAGE, "'%s' is no whole step: files that its manifest lists are missing",
                     p->request->dir);
    ix->step = m->step;
    return 0;
}

static int sum_file(void *with, int i, int hand)
{
    struct prepared *p = with;
    struct packed_file *f = &p->index.files[i];
    struct kept_file k = {-1};
    if (p->index.step >= 0 && strcmp(f->name, MANIFEST_FILE) != 0)
        return 0; /* its manifest has it */
    char *piece = xmalloc((size_t)PIECE);
    int rc = 0;
    f->crc32 = 0;
    for (int64_t at = 0; at < f->bytes && rc == 0; at += PIECE) {
        int64_t n = min64(PIECE, f->bytes - at);
        rc = kept_read(&k, p->request->dir, f->name, piece, n, at);
        f->crc32 = sum_bytes(f->crc32, piece, n);
    }
    kept_close(&k);
    free(piece);
    return rc;
}

/* ---- weights that are their master rounded ---- */

/* A file of weights, and of the optimizer's state beside it. */
struct masters {
    struct st_file weights, states;
    char *a, *b, *c; /* [PIECE], [2 PIECE], [PIECE] */
};

/* Whether `bytes` of BF16 at w are the F32 numbers at m, rounded: 1, 0, -1. */
static int is_rounded(struct masters *x, int64_t w, int64_t m, int64_t bytes)
{
    for (int64_t done = 0; done < bytes; done += PIECE) {
        int64_t n = min64(PIECE, bytes - done);
        TRY(pread_all(x->weights.fd, x->a, (size_t)n, w + done, x->weights.path));
        TRY(pread_all(x->states.fd, x->b, (size_t)(2 * n), m + 2 * done, x->states.path));
        convert(x->c, BF16, x->b, NUMBER_F32, n / 2);
        if (memcmp(x->a, x->c, (size_t)n) != 0)
            return 0;
    }
    return 1;
}

static int find_rounded(struct packed_file *f, struct masters *x, int states_file)
{
    char name[512];
    for (int i = 0; i < x->weights.count; i++) {
        const struct st_tensor *t = &x->weights.tensors[i];
        snprintf(name, sizeof name, "%s%s", t->name, states[STATE_MASTER].suffix);
        const struct st_tensor *m = st_find(&x->states, name);
        int64_t bytes = t->end - t->begin;
        if (!m || !bytes || number_of(t->dtype) != NUMBER_BF16 || number_of(m->dtype) != NUMBER_F32 ||
            m->end - m->begin != 2 * bytes)
            continue;
        int64_t w = x->weights.data + t->begin, at = x->states.data + m->begin;
        int rounded = is_rounded(x, w, at, bytes);
        if (rounded < 0)
            return -1;
        if (rounded)
            *index_add_span(f) =
                (struct packed_span){.begin = w, .end = w + bytes, .file = states_file, .at = at};
        else
            verbose("'%s' in '%s' is not its master rounded", t->name, x->weights.path);
    }
    index_place_spans(f);
    return 0;
}

/* The file's sum must be right as long as these are the bytes that were compared; and the sum of what will be
 * packed of it. */
static int sum_rest(const struct packed_file *f, struct masters *x, uint32_t *rest)
{
    uint32_t crc = 0;
    int64_t packed = packed_bytes(f);
    for (int64_t at = 0; at < f->bytes; at += PIECE) {
        int64_t n = min64(PIECE, f->bytes - at);
        TRY(pread_all(x->weights.fd, x->a, (size_t)n, at, x->weights.path));
        crc = sum_bytes(crc, x->a, n);
    }
    if (crc != f->crc32)
        return error(STATUS_USAGE, "%s: is damaged: crc32 %08" PRIx32 ", not %08" PRIx32, x->weights.path, crc,
                     f->crc32);
    *rest = 0;
    for (int64_t at = 0; at < packed;) {
        int64_t n = min64(PIECE, packed - at), from = packed_place(f, at, &n);
        TRY(pread_all(x->weights.fd, x->a, (size_t)n, from, x->weights.path));
        *rest = sum_bytes(*rest, x->a, n);
        at += n;
    }
    return 0;
}

static int index_find(const struct pack_index *ix, const char *name)
{
    int low = 0, high = ix->file_count - 1;
    while (low <= high) {
        int middle = low + (high - low) / 2, order = strcmp(name, ix->files[middle].name);
        if (order == 0)
            return middle;
        if (order < 0)
            high = middle - 1;
        else
            low = middle + 1;
    }
    return -1;
}

/* For crew_each(): only this file is changed. */
static int leave_out_rounded(void *with, int i, int hand)
{
    struct prepared *p = with;
    struct packed_file *f = &p->index.files[i];
    char *beside = path_join(OPTIMIZER_DIR, f->name);
    int states_file = tree_is_safetensors(f->name) ? index_find(&p->index, beside) : -1, rc = 0;
    free(beside);
    p->files[i].packed_crc32 = f->crc32;
    if (states_file < 0)
        return 0;
    struct masters x = {.weights = {.fd = -1}, .states = {.fd = -1}};
    char *weights = path_join(p->request->dir, f->name),
         *optimizer = path_join(p->request->dir, p->index.files[states_file].name);
    rc = st_open(&x.weights, weights);
    if (rc == 0)
        rc = st_open(&x.states, optimizer);
    if (rc == 0) {
        x.a = xmalloc((size_t)PIECE);
        x.b = xmalloc((size_t)(2 * PIECE));
        x.c = xmalloc((size_t)PIECE);
        rc = find_rounded(f, &x, states_file);
        if (rc == 0 && f->span_count)
            rc = sum_rest(f, &x, &p->files[i].packed_crc32);
    }
    free(x.a);
    free(x.b);
    free(x.c);
    if (x.weights.fd >= 0)
        st_close(&x.weights);
    if (x.states.fd >= 0)
        st_close(&x.states);
    free(weights);
    free(optimizer);
    return rc;
}

/* ---- what a base has too ---- */

/* Those of the file that are made again, and what the base has of the others, in order; spans that follow each
 * other on both sides become one. */
static int find_in_base(struct prepared *p, int file, const struct st_file *st)
{
    struct packed_file *f = &p->index.files[file];
    struct packed_span *made = f->spans;
    int made_count = f->span_count, next = 0;
    f->spans = NULL;
    f->span_count = 0;
    for (int i = 0; i < st->count; i++) {
        const struct st_tensor *t = &st->tensors[i];
        const struct base_tensor *x = base_find(&p->base, t);
        struct packed_span *last = f->span_count ? &f->spans[f->span_count - 1] : NULL;
        int64_t begin = st->data + t->begin, end = st->data + t->end;
        if (next < made_count && made[next].begin == begin && end > begin) {
            *index_add_span(f) = made[next++];
            continue;
        }
        if (!x || begin == end)
            continue;
        p->xor_bytes += end - begin;
        if (last && last->base && last->end == begin && strcmp(last->base, p->base.files[x->file]) == 0 &&
            last->at + last->end - last->begin == x->at)
            last->end = end;
        else
            *index_add_span(f) = (struct packed_span){
                .begin = begin, .end = end, .base = xstrdup(p->base.files[x->file]), .at = x->at};
    }
    index_place_spans(f);
    free(made);
    return 0;
}

/* ---- some experts ---- */

static void drop_file(struct prepared *p, int i)
{
    free(p->files[i].numbers);
    index_drop_file(&p->index, i);
    memmove(&p->files[i], &p->files[i + 1], (size_t)(p->index.file_count - i) * sizeof *p->files);
}

static int choose_experts(struct prepared *p)
{
    struct pack_index *ix = &p->index;
    struct expert_choice *c = experts_parse("--experts", p->request->experts);
    if (!c)
        return -1;
    int kept = 0, dropped = 0;
    for (int i = ix->file_count - 1; i >= 0; i--) {
        if (!ix->files[i].experts)
            continue;
        bool keep = experts_overlap(c, ix->files[i].experts, ix->files[i].layers);
        kept += keep;
        dropped += !keep;
        if (!keep)
            drop_file(p, i);
    }
    experts_free(c);
    if (!kept)
        return error(STATUS_USAGE, "'%s' has no file that holds experts %s and nothing else%s", p->request->dir,
                     p->request->experts, dropped ? "" : ": all its experts lie in files with other tensors");
    if (dropped)
        ix->experts = xstrdup(p->request->experts);
    return 0;
}

/* ---- all ---- */

static int prepare_files(struct prepared *p)
{
    const struct pack_request *r = p->request;
    struct manifest m = {0};
    int rc = tree_walk(&p->index, r->dir);
    if (rc < 0)
        return rc;
    p->files = xcalloc(p->index.file_count, sizeof *p->files);
    if (is_step_dir(r->dir)) {
        rc = manifest_read(&m, r->dir);
        if (rc == 0)
            rc = compare_manifest(p, &m);
        manifest_release(&m);
        TRY(rc);
    }
    p->names = expert_names_load(r->dir);
    if (!p->names && r->experts)
        return -1;
    rc = each_header(p, note_header);
    expert_names_free(p->names);
    if (rc == 0 && r->experts)
        rc = choose_experts(p);
    TRY(rc);
    TRY(crew_each(r->threads, p->index.file_count, sum_file, p, "reading"));
    for (int i = 0; i < p->index.file_count; i++)
        p->files[i].packed_crc32 = p->index.files[i].crc32;
    if (r->codec == CODEC_SPLIT && p->index.step >= 0)
        TRY(crew_each(r->threads, p->index.file_count, leave_out_rounded, p, "comparing weights"));
    if (r->base)
        TRY(each_header(p, find_in_base));
    for (int i = 0; i < p->index.file_count; i++)
        p->made_bytes += p->index.files[i].bytes - packed_bytes(&p->index.files[i]);
    return 0;
}

int prepare(struct prepared *p, const struct pack_request *r)
{
    *p = (struct prepared){.request = r, .index = {.codec = r->codec, .part_bytes = PART_BYTES, .step = -1}};
    int rc = 0;
    if (r->base && r->codec != CODEC_SPLIT)
        return error(STATUS_USAGE, "--base needs the codec split");
    TRY(steps_refuse_root(r->dir));
    if (r->base)
        rc = base_open(&p->base, r->base, true);
    if (rc == 0 && r->base) {
        char *whole = path_absolute(r->base);
        size_t n = strlen(whole);
        while (n > 1 && whole[n - 1] == '/')
            whole[--n] = '\0';
        p->index.base = xstrdup(strrchr(whole, '/') + (n > 1));
        p->index.base_sum = p->base.sum;
        free(whole);
    }
    if (rc == 0)
        rc = prepare_files(p);
    if (rc < 0)
        prepared_release(p);
    return rc;
}

void prepared_release(struct prepared *p)
{
    for (int i = 0; i < p->index.file_count && p->files; i++)
        free(p->files[i].numbers);
    free(p->files);
    index_release(&p->index);
    base_release(&p->base);
    *p = (struct prepared){0};
}

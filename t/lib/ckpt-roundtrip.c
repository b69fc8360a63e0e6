/* SPDX-License-Identifier: MIT */
/* Saves and loads a state whose every value is a function of tensor, row, column and kind, so that it is
 * known under any plan.
 *
 *   mpirun -n N ckpt-roundtrip save PLAN ROOT FIRST [LAST]
 *       saves steps FIRST to LAST, printing each with bytes and seconds
 *   mpirun -n N ckpt-roundtrip load PLAN DIR...
 *       loads each and checks weights, master, moments and buffers; prints what each rank has read
 *   mpirun -n N ckpt-roundtrip import PLAN [f32|bf16|f16 DIR]...
 *       imports each and checks weights (which the files hold in that type) and master
 *   mpirun -n N ckpt-roundtrip gradients PLAN DIR
 *       saves values as if they were gradients
 *   ckpt-roundtrip newest ROOT
 *       prints the newest step and its number
 *
 * Exit: 0; 1 when a value is wrong, naming it, or when there is no newest step; else the error's status.
 * $BACKEND: cpu, ref or late (the default). $COMPANIONS: a directory whose small files are saved along.
 * $RUN: the id of the run that saves, 16 hexadecimal digits. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/process.h"
#include "choose/make.h"
#include "ckpt/load.h"
#include "ckpt/map.h"
#include "ckpt/save.h"
#include "ckpt/steps.h"
#include "comm/host.h"
#include "lib/half.h"
#include "plan/text.h"
#include "tensors/convert.h"

#define CHUNK 65536

static struct plan plan;
static struct shards shards;
static struct rank_state state;
static uint32_t salt; /* of the values: others are in memory before they are loaded */

/* The master's value, or a moment's: 24 bits of a hash, so exact in f32 and rounded in bf16. */
static float value_of(uint32_t tensor, int64_t row, int64_t col, int part)
{
    uint64_t x = (uint64_t)tensor << 32 ^ (uint64_t)row * 0x9e3779b97f4a7c15u ^
                 (uint64_t)col * 0xc2b2ae3d27d4eb4fu ^ (uint64_t)(part - WEIGHTS);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return (float)((int32_t)(x >> 40) - (1 << 23)) * 0x1p-23f;
}

static uint32_t tensor_seed(const struct shard *h)
{
    char name[128];
    uint32_t hash = 2166136261u;
    for (const char *s = tensor_name(&plan.model, &plan.inventory.tensors[h->tensor], name); *s; s++)
        hash = (hash ^ (unsigned char)*s) * 16777619u;
    return hash;
}

/* Elements [first, first+n) of a shard as they should be in memory of this type, after a stay in files of
 * `stored`. */
static void expected(const struct shard *h, int part, int64_t first, int64_t n, enum type type,
                     enum number stored, void *out)
{
    static float f[CHUNK];
    uint32_t seed = tensor_seed(h) ^ salt;
    for (int64_t i = 0; i < n; i++) {
        float x = value_of(seed, h->row + (first + i) / h->cols, h->col + (first + i) % h->cols, part);
        if (stored == NUMBER_BF16)
            x = bf16_to_f32(f32_to_bf16(x));
        if (stored == NUMBER_F16)
            x = (float)(half)x;
        f[i] = x;
    }
    convert(out, type, f, NUMBER_F32, n);
}

static int wrong(const struct shard *h, int part, int64_t i)
{
    char name[160];
    return error(STATUS_NO, "rank %d: '%s' is wrong at row %" PRId64 ", column %" PRId64, state.rank,
                 map_tensor_name(&plan.model, &plan.inventory.tensors[h->tensor], part, name),
                 h->row + i / h->cols, h->col + i % h->cols);
}

/* Fills or checks what a shard has in [begin,end) of its flat buffer; `copy` is that part in host memory. */
static int go(const struct shard *h, int part, void *copy, enum type type, enum number stored, int64_t begin,
              int64_t end, bool check)
{
    static char want[4 * CHUNK];
    int64_t size = (int64_t)type_bytes(type), first = max64(h->offset, begin),
            last = min64(h->offset + h->rows * h->cols, end);
    for (; first < last; first += CHUNK) {
        int64_t n = min64(CHUNK, last - first);
        char *at = (char *)copy + (first - begin) * size;
        expected(h, part, first - h->offset, n, type, stored, check ? want : at);
        for (int64_t i = 0; i < n && check; i++)
            if (memcmp(at + i * size, want + i * size, size) != 0)
                return wrong(h, part, first - h->offset + i);
    }
    return 0;
}

/* The same of [begin,end) of flat buffer f, of which `copy` is there. */
static int run(enum flat f, int part, void *copy, enum type type, enum number stored, int64_t begin,
               int64_t end, bool check)
{
    int r = 0;
    for (int i = 0; i < shards.count && r == 0; i++)
        if (shards.list[i].flat == f)
            r = go(&shards.list[i], part, copy, type, stored, begin, end, check);
    return r;
}

/* The same of a flat buffer, or of this rank's slices of it, which lie at `device`: in one copy, as the backend
 * late takes its time to open and close memory. */
static int whole(enum flat f, int part, void *device, enum type type, enum number stored, bool slices,
                 bool check)
{
    size_t size = type_bytes(type), bytes = (size_t)(slices ? shards.sliced[f] : shards.padded[f]) * size;
    char *copy = xcalloc(bytes + 1, 1);
    int r = check ? state.be->download(state.stream, copy, device, bytes) : 0;
    if (r == 0 && !slices)
        r = run(f, part, copy, type, stored, 0, shards.padded[f], check);
    for (struct slice x = {0}; slices && r == 0 && shards_next(&shards, f, 0, shards.padded[f], &x);)
        r = run(f, part, copy + x.place * size, type, stored, x.first, x.first + x.count, check);
    if (r == 0 && !check)
        state.be->upload(state.stream, device, copy, bytes);
    free(copy);
    return r;
}

static int all(bool check, bool moments, enum number stored)
{
    for (int f = 0; f < FLATS; f++) {
        bool f32 = f == FLAT_BUFFER || plan.training.precision == PRECISION_F32;
        enum number files = f == FLAT_BUFFER && stored == NUMBER_BF16 ? NUMBER_F32 : stored;
        TRY(whole(f, WEIGHTS, state.weights[f], f32 ? F32 : BF16, files, false, check));
        if (f == FLAT_BUFFER)
            continue;
        for (int s = 0; s < STATES; s++) {
            if (!plan_keeps(&plan, s))
                continue;
            if (states[s].from_weights) /* has the weights' values, as the files have those */
                TRY(whole(f, WEIGHTS, state.state[s][f], F32, stored, true, check));
            else if (moments)
                TRY(whole(f, s, state.state[s][f], F32, NUMBER_F32, true, check));
        }
    }
    return state.be->sync(state.stream);
}

static int make_state(int rank)
{
    bool f32 = plan.training.precision == PRECISION_F32;
    shards_init(&shards, &plan, rank);
    state.plan = &plan;
    state.shards = &shards;
    state.rank = rank;
    state.companions = getenv("COMPANIONS");
    for (int f = 0; f < FLATS; f++) {
        size_t slice = max64(shards.sliced[f], 1) * sizeof(float);
        if (!(state.weights[f] =
                  state.be->alloc(max64(shards.padded[f], 1) * (f32 || f == FLAT_BUFFER ? 4 : 2))))
            return -1;
        if (f == FLAT_BUFFER)
            continue;
        for (int s = 0; s < STATES; s++)
            if (plan_keeps(&plan, s) && !(state.state[s][f] = state.be->alloc(slice)))
                return -1;
    }
    return 0;
}

static void free_state(void)
{
    bool f32 = plan.training.precision == PRECISION_F32;
    for (int f = 0; f < FLATS; f++) {
        size_t slice = max64(shards.sliced[f], 1) * sizeof(float);
        state.be->free(state.weights[f], max64(shards.padded[f], 1) * (f32 || f == FLAT_BUFFER ? 4 : 2));
        for (int s = 0; s < STATES && f != FLAT_BUFFER; s++)
            if (state.state[s][f])
                state.be->free(state.state[s][f], slice);
    }
    shards_release(&shards);
    plan_release(&plan);
}

static int save_step(struct saver *v, const char *root, const struct line *line, int64_t step)
{
    char *text = xasprintf("{\"step\": %" PRId64 ", \"run\": \"%s\"}\n", step, line->run);
    struct save_as as = {.root = root, .step = step, .state_json = text, .line = line};
    struct saved saved;
    double start = now_s();
    int rc = saver_begin(v, &state, &as, NULL);
    if (rc == 0)
        rc = saver_end(v, &saved, NULL);
    free(text);
    if (rc == 0 && state.rank == 0) {
        printf("step %" PRId64 ": %" PRId64 " bytes in %.3f s, %.2f GB/s\n", step, saved.bytes, now_s() - start,
               1e-9 * saved.bytes / (now_s() - start));
        fflush(stdout);
    }
    return rc;
}

static int save_steps(struct comm *c, const char *root, int64_t first, int64_t last)
{
    struct line line = {.run = "00000000c0ffee00"};
    if (getenv("RUN"))
        snprintf(line.run, sizeof line.run, "%s", getenv("RUN"));
    TRY(all(false, true, NUMBER_F32));
    struct saver *v = saver_new(c);
    int rc = 0;
    for (int64_t step = first; step <= last && rc == 0; step++)
        rc = save_step(v, root, &line, step);
    saver_free(v);
    return rc;
}

/* Memory with values that no file has. */
static int forget(void)
{
    salt = 1;
    int r = all(false, true, NUMBER_F32);
    salt = 0;
    return r;
}

static int load(struct comm *c, const char *dir)
{
    struct manifest m;
    struct heard h;
    int64_t ready = 0;
    if (forget() < 0 || manifest_read(&m, dir) < 0 || host_max(comm_world(c), &ready) < 0)
        return -1;
    double start = now_s();
    int64_t before = file_bytes_read();
    int r = checkpoint_load(&state, c, dir, &m, &h, NULL);
    manifest_release(&m);
    if (r == 1)
        return error(STATUS_NO, "rank %d: %s", h.rank, h.text);
    TRY(r);
    printf("rank %d read %" PRId64 " bytes\n", state.rank, file_bytes_read() - before);
    if (state.rank == 0)
        printf("loaded in %.3f s\n", now_s() - start);
    return all(true, true, NUMBER_F32) < 0 ? error_prefix("%s", dir) : 0;
}

static int import(struct comm *c, const char *type, const char *dir)
{
    enum number stored = strcmp(type, "f32") == 0   ? NUMBER_F32
                         : strcmp(type, "f16") == 0 ? NUMBER_F16
                                                    : NUMBER_BF16;
    TRY(forget());
    int64_t before = file_bytes_read();
    TRY(checkpoint_import(&state, c, dir, NULL, NULL));
    printf("rank %d read %" PRId64 " bytes\n", state.rank, file_bytes_read() - before);
    return all(true, false, stored) < 0 ? error_prefix("%s", dir) : 0;
}

static int work(struct comm *c, int argc, char **argv)
{
    int64_t first = 0, last = 0;
    if (plan_read(&plan, argv[2]) < 0 || make_state(comm_rank(c)) < 0)
        return -1;
    if (plan.world != comm_size(c))
        return error(STATUS_USAGE, "%s is for %d ranks, not %d", argv[2], plan.world, comm_size(c));
    if (strcmp(argv[1], "save") == 0 && argc >= 5 && parse_int(argv[4], 0, 1 << 30, &first) &&
        parse_int(argc > 5 ? argv[5] : argv[4], 0, 1 << 30, &last))
        return save_steps(c, argv[3], first, last);
    if (strcmp(argv[1], "load") == 0) {
        for (int i = 3; i < argc; i++)
            TRY(load(c, argv[i]));
        return 0;
    }
    if (strcmp(argv[1], "import") == 0 && argc % 2) {
        for (int i = 3; i < argc; i += 2)
            TRY(import(c, argv[i], argv[i + 1]));
        return 0;
    }
    if (strcmp(argv[1], "gradients") == 0 && plan.training.precision == PRECISION_F32)
        return all(false, true, NUMBER_F32) < 0
                   ? -1
                   : checkpoint_save_gradients(&state, c, (float *const *)state.weights, argv[3], NULL);
    return error(STATUS_USAGE, "see the top of t/lib/ckpt-roundtrip.c");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "newest") == 0) {
        int64_t step;
        char *path = checkpoint_newest(argv[2], &step);
        if (path)
            printf("%s %" PRId64 "\n", path, step);
        free(path);
        return path ? 0 : error_status() ? error_status() : 1;
    }
    const char *backend = getenv("BACKEND");
    state.be = backend_open(backend ? backend : "late", 0, 1);
    state.stream = state.be ? state.be->stream_new() : NULL;
    struct comm *c = state.be ? comm_open("auto") : NULL;
    int rc = c ? comm_attach(c, state.be) : -1;
    if (rc == 0)
        rc = argc < 4 ? error(STATUS_USAGE, "see the top of t/lib/ckpt-roundtrip.c") : work(c, argc, argv);
    int64_t status = rc < 0 ? error_status() : 0;
    if (rc < 0)
        fprintf(stderr, "ckpt-roundtrip: %s\n", error_text());
    if (c && host_max(comm_world(c), &status) < 0)
        comm_abort(c, STATUS_ENV);
    comm_close(c);
    if (plan.ranks && shards.list)
        free_state();
    return (int)status;
}

/* SPDX-License-Identifier: MIT */
/* A rank's share of a checkpoint (ckpt/units.h), found by each rank alone: on small plans of all sorts the
 * shares together are the files, byte for byte, and senders and writers mean the same messages in the same
 * order; on a plan of 98,304 ranks it takes little time and memory. */
#include "lib/plans.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "base/file.h"
#include "base/num.h"
#include "ckpt/units.h"
#include "cost/snapshot.h"
#include "plan/layout.h"
#include "plan/slots.h"

static char dir[] = "/tmp/moekit-share-XXXXXX";

static char *config(const char *name, const char *text)
{
    char *path = path_join(dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
    return path;
}

/* ---- shares against a listing of everything ---- */

/* An element of a file, whoever holds it. */
static uint32_t value(int entry, int64_t row, int64_t col)
{
    uint32_t x = (uint32_t)entry * 2654435761u + (uint32_t)row * 40503u + (uint32_t)col * 2246822519u;
    return x ^ x >> 15;
}

struct message {
    int from, to, file;
    int64_t offset, bytes;
    int turn; /* of the rank that lists it */
};

struct messages {
    struct message *list;
    int count, room;
};

static void add_message(struct messages *m, struct message one)
{
    if (m->count == m->room) {
        m->room = m->room ? 2 * m->room : 1024;
        m->list = xrealloc(m->list, m->room, sizeof *m->list);
    }
    m->list[m->count++] = one;
}

/* By pair of ranks, each pair's in the order in which they were listed. */
static int by_pair(const void *a, const void *b)
{
    const struct message *x = a, *y = b;
    return x->from != y->from ? x->from - y->from : x->to != y->to ? x->to - y->to : x->turn - y->turn;
}

static void assert_same_messages(struct messages *sent, struct messages *awaited)
{
    assert_int_equal(sent->count, awaited->count);
    if (!sent->count)
        return;
    qsort(sent->list, sent->count, sizeof *sent->list, by_pair);
    qsort(awaited->list, awaited->count, sizeof *awaited->list, by_pair);
    for (int i = 0; i < sent->count; i++) {
        struct message *x = &sent->list[i], *y = &awaited->list[i];
        if (x->from != y->from || x->to != y->to || x->file != y->file || x->offset != y->offset ||
            x->bytes != y->bytes)
            fail_msg("rank %d sends %d: file %d, %lld+%lld; rank %d awaits from %d: file %d, %lld+%lld",
                     x->from, x->to, x->file, (long long)x->offset, (long long)x->bytes, y->to, y->from,
                     y->file, (long long)y->offset, (long long)y->bytes);
    }
}

/* What a rank packs for a contribution, from what it really holds: it must hold all of that. */
static void pack(const struct map_entry *e, int entry, const struct shards *s, const struct contribution *c,
                 char *packed)
{
    const struct shard *h = NULL;
    for (int i = 0; i < s->count; i++)
        if (s->list[i].tensor == e->tensor && !s->list[i].second)
            h = &s->list[i];
    assert_non_null(h);
    assert_true(c->count > 0 && c->first >= h->offset && c->first + c->count <= h->offset + h->rows * h->cols);
    struct slice x = {0}; /* of a state */
    assert_true(e->state == WEIGHTS || shards_next(s, h->flat, c->first, c->first + c->count, &x));
    assert_true(e->state == WEIGHTS || x.count == c->count);
    for (int64_t k = c->first - h->offset; k < c->first - h->offset + c->count; k++) {
        uint32_t one = value(entry, h->row + k / h->cols, h->col + k % h->cols);
        packed = mempcpy(packed, &one, type_bytes(e->type));
    }
}

static int by_flat(const void *a, const void *b)
{
    const struct shard *x = a, *y = b;
    return x->flat != y->flat      ? (int)x->flat - (int)y->flat
           : x->offset < y->offset ? -1
                                   : x->offset > y->offset;
}

/* A rank's shards fill its flat buffers, each place once. */
static void assert_back_to_back(const struct shards *s)
{
    struct shard *list = xcalloc(s->count, sizeof *list);
    int64_t end[FLATS] = {0};
    memcpy(list, s->list, s->count * sizeof *list);
    qsort(list, s->count, sizeof *list, by_flat);
    for (int i = 0; i < s->count; i++) {
        assert_int_equal(list[i].offset, end[list[i].flat]);
        end[list[i].flat] += list[i].rows * list[i].cols;
    }
    for (int f = 0; f < FLATS; f++)
        assert_int_equal(end[f], s->elements[f]);
    free(list);
}

struct checked {
    const struct plan *p;
    struct ckpt_map l;
    struct shards *shards; /* [world] what each rank really holds */
    char **files;          /* what is written: data without headers */
    char **times;          /* [bytes] how often each was */
    int64_t *loads;
    struct messages sent, awaited;
    bool bytewise;
};

static void note(struct messages *m, const struct ckpt_map *l, const struct unit *n, const struct units *u,
                 int from, int turn)
{
    struct message one = {.from = from, .to = n->writer, .file = n->file, .offset = n->offset, .turn = turn};
    for (int i = 0; i < u->list_count; i++)
        if (u->list[i].rank == from)
            one.bytes +=
                u->list[i].count * (int64_t)type_bytes(l->entries[n->segments[u->list[i].segment].entry].type);
    if (one.bytes)
        add_message(m, one);
}

/* The writer's side of a unit. */
static void write_unit(struct checked *c, struct units *u, const struct unit *n, int turn)
{
    int64_t begin = n->offset - c->l.files[n->file].header;
    char *bytes = xcalloc(n->bytes, 1), *packed = xmalloc(n->bytes);
    c->loads[u->rank] += n->bytes;
    for (int i = 0; i < u->list_count; i++) {
        const struct contribution *one = &u->list[i];
        if (one->rank != u->rank && (i == 0 || u->list[i - 1].rank != one->rank))
            note(&c->awaited, &c->l, n, u, one->rank, turn);
        if (i)
            assert_true(one[-1].rank < one->rank ||
                        (one[-1].rank == one->rank && one[-1].segment <= one->segment &&
                         (one[-1].segment < one->segment || one[-1].first < one->first)));
        if (!c->bytewise)
            continue;
        int entry = n->segments[one->segment].entry;
        pack(&c->l.entries[entry], entry, &c->shards[one->rank], one, packed);
        unit_scatter(u, n, one, packed, bytes);
    }
    for (int64_t k = 0; k < n->bytes; k++)
        c->times[n->file][begin + k]++;
    memcpy(c->files[n->file] + begin, bytes, n->bytes);
    free(bytes);
    free(packed);
}

static void walk(struct checked *c, int rank)
{
    struct units u;
    int64_t file = -1, end = 0;
    units_init(&u, &c->l, rank);
    for (const struct unit *n; (n = units_next(&u));) {
        int turn = c->sent.count + c->awaited.count;
        int64_t bytes = 0;
        assert_true(n->file > file || (n->file == file && n->offset >= end));
        file = n->file;
        end = n->offset + n->bytes;
        assert_true(n->bytes > 0 && end <= c->l.files[n->file].bytes && n->bytes <= 9 << 20);
        for (int i = 0; i < n->count; i++) {
            assert_int_equal(n->segments[i].at, bytes);
            assert_true(n->segments[i].rows > 0);
            bytes += n->segments[i].bytes;
        }
        assert_int_equal(bytes, n->bytes);
        if (units_parts(&u, n) < 0)
            fail_msg("%s", error_text());
        if (n->writer == rank)
            write_unit(c, &u, n, turn);
        else
            note(&c->sent, &c->l, n, &u, rank, turn);
    }
    units_release(&u);
}

/* Every byte once, and with the value that belongs there. */
static void assert_written(const struct checked *c)
{
    for (int f = 0; f < c->l.file_count; f++) {
        const struct map_file *file = &c->l.files[f];
        for (int64_t k = 0; k < file->bytes - file->header; k++)
            if (c->times[f][k] != 1)
                fail_msg("byte %lld of %s is written %d times", (long long)k, file->name, c->times[f][k]);
        for (int i = file->first; i < file->first + file->count && c->bytewise; i++) {
            const struct map_entry *e = &c->l.entries[i];
            const struct tensor *t = &c->p->inventory.tensors[e->tensor];
            for (int64_t k = 0; k < tensor_count(t); k++) {
                uint32_t x = value(i, k / t->cols, k % t->cols);
                if (memcmp(c->files[f] + e->begin + k * type_bytes(e->type), &x, type_bytes(e->type)) != 0)
                    fail_msg("element %lld of entry %d is wrong", (long long)k, i);
            }
        }
    }
}

/* What the plan predicts of each rank's share, to within a unit; together, to within rounding up, the files. */
static void assert_predicted(const struct checked *c)
{
    int64_t shares = 0, files = 0;
    for (int r = 0; r < c->p->world; r++) {
        int64_t share = snapshot_bytes(c->p, r);
        assert_true(c->loads[r] <= share + (9 << 20) && c->loads[r] >= share - (9 << 20));
        shares += share;
    }
    for (int f = 0; f < c->l.file_count; f++)
        files += c->l.files[f].bytes - c->l.files[f].header;
    assert_in_range(shares, files, files + 2 * c->p->world);
}

/* Each of a pipeline rank writes as much as the next, but for the rows that slots are rounded to. */
static void assert_even(const struct checked *c)
{
    int64_t row = 0;
    for (int i = 0; i < c->l.count; i++)
        row = max64(row, row_bytes(&c->l, &c->l.entries[i]));
    for (int pp = 0; pp < c->p->axes.pp; pp++) {
        int64_t least = INT64_MAX, most = 0, each;
        for (int r = 0; r < c->p->world; r++)
            if (c->p->ranks[r].pp == pp) {
                least = min64(least, c->loads[r]);
                most = max64(most, c->loads[r]);
            }
        each = most >> 22; /* a slot is 4 MiB or more where there are several */
        if (least && !(most - least <= 4 * row * (2 + each)))
            fail_msg("on pp %d a rank writes %lld bytes, another %lld", pp, (long long)least, (long long)most);
    }
}

static void check_plan(const struct plan *p, enum map_kind kind, bool bytewise)
{
    struct checked c = {.p = p, .bytewise = bytewise, .loads = xcalloc(p->world, sizeof *c.loads)};
    map_init(&c.l, p, kind, 7);
    c.shards = xcalloc(p->world, sizeof *c.shards);
    for (int r = 0; r < p->world; r++)
        shards_init(&c.shards[r], p, r), assert_back_to_back(&c.shards[r]);
    c.files = xcalloc(c.l.file_count, sizeof *c.files);
    c.times = xcalloc(c.l.file_count, sizeof *c.times);
    for (int f = 0; f < c.l.file_count; f++) {
        c.files[f] = xcalloc(c.l.files[f].bytes, 1);
        c.times[f] = xcalloc(c.l.files[f].bytes, 1);
    }
    for (int r = 0; r < p->world; r++) {
        assert_int_equal(layout_dense_rank(&p->axes, &p->ranks[r]), r);
        assert_int_equal(layout_expert_rank(&p->axes, &p->ranks[r]), r);
        walk(&c, r);
    }
    assert_same_messages(&c.sent, &c.awaited);
    assert_written(&c);
    if (plan_slots_alike(p))
        assert_even(&c);
    if (kind == MAP_STATE)
        assert_predicted(&c);
    for (int f = 0; f < c.l.file_count; f++) {
        free(c.files[f]);
        free(c.times[f]);
    }
    for (int r = 0; r < p->world; r++)
        shards_release(&c.shards[r]);
    free(c.shards);
    free(c.files);
    free(c.times);
    free(c.loads);
    free(c.sent.list);
    free(c.awaited.list);
    map_release(&c.l);
}

static const char tied[] =
    "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 5, \"hidden_size\": 32, \"num_attention_heads\": 8,\n"
    " \"num_key_value_heads\": 2, \"vocab_size\": 97, \"num_experts_per_tok\": 2, \"num_local_experts\": 4,\n"
    " \"intermediate_size\": 48, \"sliding_window\": null, \"tie_word_embeddings\": true}\n";
/* Biases, a dense first layer, a shared expert, buffers. */
static const char glm[] =
    "{\"model_type\": \"glm4_moe\", \"vocab_size\": 101, \"hidden_size\": 32, \"intermediate_size\": 48,\n"
    " \"moe_intermediate_size\": 24, \"num_hidden_layers\": 4, \"num_attention_heads\": 4,\n"
    " \"num_key_value_heads\": 2, \"head_dim\": 8, \"n_routed_experts\": 8, \"n_shared_experts\": 1,\n"
    " \"num_experts_per_tok\": 2, \"n_group\": 1, \"topk_group\": 1, \"first_k_dense_replace\": 1,\n"
    " \"use_qk_norm\": true, \"attention_bias\": true, \"partial_rotary_factor\": 0.5, \"hidden_act\": "
    "\"silu\"}\n";
/* Groups of 12 and 24 MB: several slots. */
static const char wide[] =
    "{\"model_type\": \"mixtral\", \"num_hidden_layers\": 2, \"hidden_size\": 320, \"num_attention_heads\": "
    "4,\n"
    " \"num_key_value_heads\": 4, \"vocab_size\": 2003, \"num_experts_per_tok\": 2, \"num_local_experts\": 2,\n"
    " \"intermediate_size\": 272, \"sliding_window\": null, \"tie_word_embeddings\": false}\n";

static int64_t one_of(uint64_t *seed, const int64_t *list)
{
    int n = 0;
    while (list[n])
        n++;
    return list[next_random(seed) % (uint64_t)n];
}

static struct request random_request(uint64_t *seed, const char *model)
{
    static const char *const orders[] = {"",
                                         "tp-cp-ep-dp-pp",
                                         "tp-ep-dp-pp-cp",
                                         "dp-tp-ep-cp-pp",
                                         "cp-dp-ep-tp-pp",
                                         "ep-tp-dp-cp-pp",
                                         "pp-tp-cp-ep-dp"};
    struct request r = {.model = model, .world = one_of(seed, (int64_t[]){2, 4, 6, 8, 12, 16, 24, 32, 0})};
    r.axes.tp = one_of(seed, (int64_t[]){1, 1, 2, 4, 0});
    r.axes.cp = one_of(seed, (int64_t[]){1, 1, 1, 2, 0});
    r.axes.etp = one_of(seed, (int64_t[]){1, 1, 2, 4, 0});
    r.axes.ep = one_of(seed, (int64_t[]){1, 2, 4, 0});
    r.axes.pp = one_of(seed, (int64_t[]){1, 1, 2, 3, 0});
    r.axes.vpp = r.axes.pp == 2 ? one_of(seed, (int64_t[]){1, 2, 0}) : 1;
    strcpy(r.axes.order, orders[next_random(seed) % (sizeof orders / sizeof *orders)]);
    r.batch = (struct batch){.seq = 32, .micro = 1, .global = 96};
    r.zero = (int64_t)(next_random(seed) % 3);
    r.precision = next_random(seed) % 2 ? "bf16" : "f32";
    r.bucket_bytes = next_random(seed) % 2 ? (int64_t)4 << next_random(seed) % 20 : 0;
    return r;
}

/* Each layer its own way, and mostly a rank has what another lacks. */
static void shuffle_experts(struct plan *p, uint64_t *seed)
{
    const struct model *m = &p->model;
    int64_t count = 0, ep = p->axes.ep, uneven = next_random(seed) % 4, order[64];
    struct expert_place *list = xcalloc((size_t)(m->layers * m->experts), sizeof *list);
    for (int layer = 0; layer < m->layers; layer++) {
        for (uint64_t e = 0, other; e < (uint64_t)m->experts && m->moe[layer]; e++) {
            other = next_random(seed) % (e + 1);
            order[e] = order[other];
            order[other] = (int64_t)e;
        }
        for (int64_t i = 0; i < m->experts && m->moe[layer]; i++) {
            uint64_t at = i >= ep && uneven ? next_random(seed) : (uint64_t)i;
            list[count++] = (struct expert_place){layer, (int)(at % (uint64_t)ep), (int)order[i]};
        }
    }
    slots_set(p, list, count);
    free(list);
}

static void random_plans(void **state)
{
    uint64_t seed = 20250611, turns = 1;
    char *models[] = {config("tied.json", tied), config("glm.json", glm), config("wide.json", wide)};
    char *cluster = config("cluster.json", "{\"name\": \"test\", \"device\": \"cpu\", \"nodes\": 64}\n");
    int made_of[3] = {0}, sliced = 0, shared_heads = 0, chunks = 0, uneven = 0, buckets = 0;
    for (int i = 0; i < 1500 && made_of[0] + made_of[1] < 80; i++) {
        int which = i % 12 == 11 ? 2 : i % 2;
        struct request r = random_request(&seed, models[which]);
        struct plan p;
        r.cluster = cluster;
        if (plan_make(&p, &r) < 0)
            continue;
        if (i % 3)
            shuffle_experts(&p, &turns);
        check_plan(&p, i % 5 ? MAP_STATE : MAP_GRADIENTS, true);
        made_of[which]++;
        sliced += p.training.zero && p.axes.edp > 1;
        shared_heads += p.axes.tp > p.model.kv_heads;
        chunks += p.axes.vpp > 1;
        uneven += !plan_slots_alike(&p);
        buckets += p.training.zero && p.axes.dp > 1 && p.training.bucket_bytes > 0;
        plan_release(&p);
    }
    print_message("%d, %d, %d plans, %d sliced, %d by buckets, %d share heads, %d have chunks, %d uneven\n",
                  made_of[0], made_of[1], made_of[2], sliced, buckets, shared_heads, chunks, uneven);
    assert_true(made_of[0] + made_of[1] == 80 && made_of[2] >= 4);
    assert_true(sliced > 20 && shared_heads > 5 && chunks > 4 && uneven > 5 && buckets > 10);
    for (int k = 0; k < 3; k++)
        free(models[k]);
    free(cluster);
}

static void one_rank(void **state)
{
    struct plan p = made((struct request){.model = "moe-tiny", .world = 1, .zero = 1});
    check_plan(&p, MAP_STATE, true);
    plan_release(&p);
}

/* ---- the size of the largest jobs ---- */

static const char qwen[] =
    "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 4096, \"num_hidden_layers\": 94, "
    "\"num_attention_heads\": 64,\n"
    " \"num_key_value_heads\": 4, \"head_dim\": 128, \"intermediate_size\": 12288, \"moe_intermediate_size\": "
    "1536,\n"
    " \"num_experts\": 128, \"num_experts_per_tok\": 8, \"vocab_size\": 151936, \"decoder_sparse_step\": 1,\n"
    " \"mlp_only_layers\": [], \"norm_topk_prob\": true, \"max_position_embeddings\": 40960,\n"
    " \"rope_theta\": 1000000.0, \"rms_norm_eps\": 1e-6, \"hidden_act\": \"silu\", \"tie_word_embeddings\": "
    "false,\n"
    " \"torch_dtype\": \"bfloat16\"}\n";

struct cost {
    double cpu_s, peak_bytes;
    int64_t written, given; /* bytes that the rank writes; that it gives to others */
    int units;              /* that it writes */
};

/* The walk of one rank alone, as a save makes it. */
static struct cost walk_alone(const struct plan *p, int rank)
{
    struct ckpt_map l;
    struct units u;
    struct cost c = {0};
    map_init(&l, p, MAP_STATE, 7);
    units_init(&u, &l, rank);
    for (const struct unit *n; (n = units_next(&u));) {
        assert_int_equal(units_parts(&u, n), 0);
        c.units += n->writer == rank;
        c.written += n->writer == rank ? n->bytes : 0;
        for (int i = 0; i < u.list_count && n->writer != rank; i++)
            c.given +=
                u.list[i].count * (int64_t)type_bytes(l.entries[n->segments[u.list[i].segment].entry].type);
    }
    units_release(&u);
    map_release(&l);
    return c;
}

static double resident_bytes(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* In a process of its own, whose peak is nobody else's. */
static struct cost cost_of(const struct plan *p, int rank)
{
    struct cost c;
    int pipes[2], status;
    assert_int_equal(pipe(pipes), 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rusage before, after;
        double resident = resident_bytes();
        getrusage(RUSAGE_SELF, &before);
        clock_t begin = clock();
        c = walk_alone(p, rank);
        c.cpu_s = (double)(clock() - begin) / CLOCKS_PER_SEC;
        getrusage(RUSAGE_SELF, &after);
        c.peak_bytes = (double)after.ru_maxrss * 1024 - resident;
        _exit(write(pipes[1], &c, sizeof c) == sizeof c ? 0 : 1);
    }
    assert_int_equal(read(pipes[0], &c, sizeof c), sizeof c);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close(pipes[0]);
    close(pipes[1]);
    return c;
}

static void print_cost(const char *what, int rank, struct cost c)
{
    print_message("%s, rank %d: %.3f s, %.1f MiB; writes %d units, %.1f MiB, gives %.1f MiB\n", what, rank,
                  c.cpu_s, c.peak_bytes / (1 << 20), c.units, (double)c.written / (1 << 20),
                  (double)c.given / (1 << 20));
}

#ifdef __SANITIZE_ADDRESS__ /* which takes many times that of both */
static const double limit_s = 20, limit_bytes = 1 << 30;
#else
static const double limit_s = 1, limit_bytes = 64 << 20;
#endif

/* Qwen3-235B on 98,304 ranks, whatever the layout: under 1 s and 64 MiB. (Walked over all units and all
 * ranks it was 14 to 19 s and 400 to 590 MiB with the first of these layouts.) */
static void large_jobs(void **state)
{
    static const struct axes layouts[] = {{.tp = 4, .ep = 32, .pp = 8},
                                          {.tp = 8, .etp = 1, .ep = 128, .pp = 16},
                                          {.tp = 4, .ep = 8, .pp = 1},
                                          {.tp = 1}};
    char *model = config("qwen.json", qwen);
    char *cluster = config(
        "cluster.json", "{\"name\": \"big\", \"device\": \"cuda\", \"nodes\": 12288, \"ranks_per_node\": 8}\n");
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        struct plan p = made((struct request){.model = model,
                                              .cluster = cluster,
                                              .world = 98304,
                                              .axes = layouts[i],
                                              .precision = "bf16",
                                              .zero = 1,
                                              .batch = {.seq = 4096, .global = 98304}});
        const int ranks[] = {0, 12288, 50000, 98303};
        char what[80];
        snprintf(what, sizeof what, "tp %d etp %d ep %d pp %d", (int)p.axes.tp, (int)p.axes.etp, (int)p.axes.ep,
                 (int)p.axes.pp);
        for (size_t k = 0; k < sizeof ranks / sizeof *ranks; k++) {
            struct cost c = cost_of(&p, ranks[k]);
            print_cost(what, ranks[k], c);
            assert_true(c.written + c.given > 0);
            assert_true(c.cpu_s < limit_s);
            assert_true(c.peak_bytes < limit_bytes);
        }
        plan_release(&p);
    }
    free(model);
    free(cluster);
}

/* 128 ranks of a 7B model: even over all of them, and as much as can be left on the ranks that hold it. */
static void reference_jobs(void **state)
{
    static const char *const jobs[] = {"ep16-tp4-pp2", "ep16-tp4-pp2-folded"};
    for (int i = 0; i < 2; i++) {
        struct plan p = made((struct request){.strategy = jobs[i], .zero = 1});
        int64_t least = INT64_MAX, most = 0, all = 0, data = 0;
        struct ckpt_map l;
        map_init(&l, &p, MAP_STATE, 7);
        for (int r = 0; r < p.world; r++) {
            struct cost c = walk_alone(&p, r);
            least = min64(least, c.written);
            most = max64(most, c.written);
            all += c.written;
        }
        for (int f = 0; f < l.file_count; f++)
            data += l.files[f].bytes - l.files[f].header;
        assert_int_equal(all, data);
        if (!((double)most <= (double)least * 1.02))
            fail_msg("a rank writes %lld bytes, another %lld", (long long)least, (long long)most);
        map_release(&l);
        plan_release(&p);
    }
}

/* Where nobody holds a part, the writer says so. */
static void holes(void **state)
{
    struct plan p =
        made((struct request){.model = "moe-tiny", .world = 4, .axes = {.tp = 2, .ep = 2}, .zero = 1});
    int refused_units = 0;
    struct ckpt_map l;
    p.ranks[1].tp = 0; /* which should have the other half */
    map_init(&l, &p, MAP_STATE, 7);
    for (int r = 0; r < p.world; r++) {
        struct units u;
        units_init(&u, &l, r);
        for (const struct unit *n; (n = units_next(&u));)
            if (units_parts(&u, n) < 0) {
                assert_non_null(strstr(error_text(), "plan: its ranks hold "));
                refused_units++;
            }
        units_release(&u);
    }
    assert_true(refused_units > 0);
    map_release(&l);
    plan_release(&p);
}

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
    return remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_rank), cmocka_unit_test(random_plans),
                                       cmocka_unit_test(holes), cmocka_unit_test(reference_jobs),
                                       cmocka_unit_test(large_jobs)};
    return cmocka_run_group_tests(tests, make_dir, drop_dir);
}

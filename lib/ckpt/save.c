/* SPDX-License-Identifier: MIT */
/* A save: a temporary directory, units from everyone, the manifest, a rename. All ranks agree before each step
 * that shows. */
#include "ckpt/save.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/process.h"
#include "ckpt/companion.h"
#include "ckpt/names.h"
#include "ckpt/save_units.h"
#include "ckpt/steps.h"
#include "comm/agree.h"
#include "comm/host.h"
#include "plan/text.h"
#include "tensors/hfdir.h"
#include "tensors/sum.h"

/* -1 on every rank when any has failed. */
static int agree(struct saver *v)
{
    return comm_agree(v->comm, v->failed ? error(v->status, "%s", v->text) : 0, v->agreed);
}

/* ---- rank 0: the directory ---- */

/* A file with its header, its full size asked for at once so that a full disk is found before anything is sent.
 */
static int make_file(struct saver *v, int file)
{
    const struct map_file *f = &v->l.files[file];
    int64_t bytes;
    char *path = path_join(v->dir, f->name), *header = map_header(&v->l, file, &bytes);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    int rc = fd < 0 ? error_errno("cannot write '%s'", path) : 0;
    if (rc == 0 && fallocate(fd, 0, 0, f->bytes) != 0 && errno != EOPNOTSUPP && errno != ENOSYS)
        rc = error_errno("cannot write '%s'", path);
    if (rc == 0 && ftruncate(fd, f->bytes) != 0)
        rc = error_errno("cannot write '%s'", path);
    if (rc == 0)
        rc = pwrite_all(fd, header, bytes, 0, path);
    v->touched[file] = true; /* synced with the rest, at the end */
    if (fd >= 0)
        close(fd);
    free(header);
    free(path);
    return rc;
}

/* A step's temporary directory carries the run's id, so one that is there is of this run's last try. */
static int make_tree(struct saver *v)
{
    char *optimizer = path_join(v->dir, OPTIMIZER_DIR);
    int rc = v->gradients ? 0 : remove_tree(v->dir);
    if (rc == 0 && v->gradients && mkdir(v->dir, 0777) != 0)
        rc = error_errno("cannot make directory '%s'", v->dir);
    else if (rc == 0 && !v->gradients)
        rc = make_dirs(optimizer);
    v->made = rc == 0;
    free(optimizer);
    for (int f = 0; f < v->l.file_count && rc == 0; f++)
        rc = make_file(v, f);
    return rc;
}

static int put_plan(struct saver *v, struct manifest *m)
{
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    int rc = plan_write(v->s->plan, f);
    fclose(f);
    if (rc == 0)
        rc = manifest_put(m, v->dir, PLAN_FILE, text, bytes);
    free(text);
    return rc;
}

/* When the directory they should come from is gone (a step that was resumed, and pruned since), the newest step
 * has them. */
static int put_companions(struct saver *v, struct manifest *m, const char *root)
{
    if (!v->s->companions || v->gradients)
        return 0;
    char *from = is_dir(v->s->companions) ? xstrdup(v->s->companions) : checkpoint_newest(root, NULL);
    int rc = 0;
    if (from && access(from, R_OK | X_OK) == 0)
        rc = companions_put(m, from, v->dir, v->as.algorithms ? ALGORITHMS_FILE : NULL);
    else
        complain("the small files of '%s', the tokenizer's say, do not go along: it cannot be opened",
                 v->s->companions);
    free(from);
    return rc;
}

/* ---- rank 0: the checksums ---- */

/* One tensor's sums, from those of its ranges, which must cover it exactly once. *next: the first range not yet
 * used. */
static int tensor_sums(const struct saver *v, struct manifest_tensor *t, int entry, int *next)
{
    const struct range *r = v->writer.ranges;
    const struct map_entry *x = &v->l.entries[entry];
    int64_t end = 0, count = ceil_div(x->bytes, RANGE_BYTES);
    char name[160];
    *t = (struct manifest_tensor){.name = xstrdup(map_entry_name(&v->l, x, name))};
    if (count > 1)
        t->ranges = xcalloc(count, sizeof *t->ranges);
    for (; *next < v->writer.range_count && r[*next].entry == entry && r[*next].begin == end; ++*next) {
        t->crc32 = sum_join(t->crc32, r[*next].crc32, r[*next].bytes);
        if (t->ranges)
            t->ranges[t->range_count++] = r[*next].crc32;
        end += r[*next].bytes;
    }
    return end == x->bytes
               ? 0
               : error(STATUS_ENV,
                       "'%s' was not written whole: byte %" PRId64 " of %" PRId64 " is missing or twice", name,
                       end, x->bytes);
}

/* One file's entry of the manifest. */
static int file_sums(const struct saver *v, struct manifest *m, int file, int *next)
{
    const struct map_file *f = &v->l.files[file];
    char *header = map_header(&v->l, file, &(int64_t){0});
    uint32_t whole = sum_bytes(0, header, f->header);
    free(header);
    struct manifest_file *out = manifest_add(m, xstrdup(f->name), f->bytes, 0);
    out->tensors = xcalloc(f->count, sizeof *out->tensors);
    for (int e = f->first; e < f->first + f->count; e++) {
        struct manifest_tensor *t = &out->tensors[out->count++];
        TRY(tensor_sums(v, t, e, next));
        whole = sum_join(whole, t->crc32, v->l.entries[e].bytes);
    }
    out->crc32 = whole;
    return 0;
}

/* ---- the end ---- */

/* Whether what has the name may stay: it is whole, as far as one sees, and of the line. */
static bool is_ours(const struct saver *v, const char *final)
{
    struct line l = {0};
    char *manifest = path_join(final, MANIFEST_FILE);
    bool ours = file_exists(manifest) && step_line(final, &l) == 0 && line_has(v->as.line, l.run, v->as.step);
    free(manifest);
    line_release(&l);
    return ours;
}

/* Whether a renameat2() has failed because the system has none of this kind for the file system. */
static bool cannot_rename_so(void)
{
    return errno == EINVAL || errno == ENOSYS || errno == ENOTSUP;
}

/* Another directory has the name, and is set aside as *aside. The new one takes that name first and then
 * changes places with the old one: whenever the host stops, the old one has a name that stays. */
static int change_places(struct saver *v, const char *final, const char *aside)
{
    if (rename(v->dir, aside) != 0)
        return error_errno("cannot rename '%s' to '%s'", v->dir, aside);
    if (renameat2(AT_FDCWD, aside, AT_FDCWD, final, RENAME_EXCHANGE) == 0)
        return 0;
    int rc = cannot_rename_so() ? 0 : error_errno("cannot rename '%s' to '%s'", v->dir, final);
    rename(aside, v->dir);
    TRY(rc); /* else one after the other */
    if (rename(final, aside) != 0)
        return error_errno("cannot rename '%s' to '%s'", final, aside);
    if (rename(v->dir, final) == 0)
        return 0;
    error_errno("cannot rename '%s' to '%s'", v->dir, final);
    rename(aside, final);
    return -1;
}

/* What has the name is not to stay: a name for it, and why. */
static char *name_aside(const struct saver *v, const char *final, const char **why)
{
    struct line l;
    *why = step_line(final, &l) == 0 ? "abandoned" : "broken";
    char *aside = step_aside_path(v->as.root, v->as.step, l.run, *why);
    line_release(&l);
    return aside;
}

/* Not known to be on disk: not saved, and all as it was. */
static int take_back(struct saver *v, const char *final, const char *aside)
{
    rename(final, v->dir);
    if (aside)
        rename(aside, final);
    return -1;
}

/* Gives the directory its final name, which never replaces one that is there. Where the file system knows no
 * rename without replacing, a plain one does: it refuses a directory that holds anything. */
static int give_name(struct saver *v, const char *final)
{
    char *aside = NULL;
    const char *why = "";
    int rc = v->as.mark ? mark_check(v->as.mark) : 0;
    if (rc == 0 && renameat2(AT_FDCWD, v->dir, AT_FDCWD, final, RENAME_NOREPLACE) != 0 &&
        (!cannot_rename_so() || rename(v->dir, final) != 0)) {
        bool there = errno == EEXIST || errno == ENOTEMPTY;
        if (there && !v->gradients && !is_ours(v, final))
            rc = change_places(v, final, aside = name_aside(v, final, &why));
        else if (there)
            rc = error(STATUS_USAGE, "'%s' is there already", final);
        else
            rc = error_errno("cannot rename '%s' to '%s'", v->dir, final);
    }
    if (rc == 0 && sync_parent(final) < 0)
        rc = take_back(v, final, aside);
    if (rc == 0 && aside)
        step_say_aside(v->as.step, aside, why);
    free(aside);
    return rc;
}

static int seal(struct saver *v, const char *final, int64_t *bytes)
{
    const char *state = v->as.state_json ? v->as.state_json : "{}\n";
    struct manifest m = {.step = v->as.step, .range = RANGE_BYTES};
    const struct model *model = &v->s->plan->model;
    char *optimizer = path_join(v->dir, OPTIMIZER_DIR), *index = map_index_json(&v->l);
    char *root = path_parent(final);
    int rc = manifest_put(&m, v->dir, CONFIG_FILE, model->source, model->source_bytes), next = 0;
    if (rc == 0)
        rc = manifest_put(&m, v->dir, INDEX_FILE, index, strlen(index));
    if (rc == 0)
        rc = put_plan(v, &m);
    if (rc == 0 && !v->gradients)
        rc = manifest_put(&m, v->dir, STATE_FILE, state, strlen(state));
    if (rc == 0 && v->as.algorithms)
        rc = manifest_put(&m, v->dir, ALGORITHMS_FILE, v->as.algorithms, strlen(v->as.algorithms));
    if (rc == 0)
        rc = put_companions(v, &m, root);
    for (int f = 0; f < v->l.file_count && rc == 0; f++)
        rc = file_sums(v, &m, f, &next);
    if (rc == 0 && next != v->writer.range_count)
        rc = error(STATUS_ENV, "a part of the checkpoint was written twice");
    char *text = manifest_text(&m);
    if (rc == 0)
        rc = manifest_put(NULL, v->dir, MANIFEST_FILE, text, strlen(text));
    if (rc == 0 && !v->gradients)
        rc = sync_dir(optimizer);
    if (rc == 0)
        rc = sync_dir(v->dir);
    if (rc == 0)
        rc = give_name(v, final);
    *bytes = (int64_t)strlen(text) + manifest_bytes(&m);
    free(text);
    free(root);
    free(index);
    free(optimizer);
    manifest_release(&m);
    return rc;
}

/* ---- a save ---- */

/* After a failure of communication messages may still come and go: their memory stays until the process
 * ends. */
static void release_messages(struct saver *v)
{
    if (comm_fault(v->comm))
        return;
    for (int i = 0; i < SENDS; i++)
        free(v->sends[i].buffer);
    for (int i = 0; i < GATHERS; i++) {
        free(v->gathers[i].list);
        free(v->gathers[i].senders);
        free(v->gathers[i].incoming);
    }
    memset(v->sends, 0, sizeof v->sends);
    memset(v->gathers, 0, sizeof v->gathers);
}

/* The save is over. */
static void release(struct saver *v)
{
    release_messages(v);
    writer_release(&v->writer);
    free(v->scratch);
    free(v->touched);
    free(v->state_json);
    free(v->algorithms);
    free(v->dir);
    free(v->final);
    v->scratch = v->state_json = v->algorithms = v->dir = v->final = NULL;
    v->scratch_room = 0;
    v->touched = NULL;
    units_release(&v->u);
    map_release(&v->l);
    v->busy = v->made = v->failed = false;
}

/* On failure rank 0 takes away what there is of it. The error stays what it was. */
static int doomed(struct saver *v)
{
    char text[700];
    enum status status = error_status();
    snprintf(text, sizeof text, "%s", error_text());
    writer_join(&v->writer);
    if (v->made)
        remove_tree(v->dir);
    release(v);
    return error(status, "%s", text);
}

/* The ring's size: a slot for every unit of this rank's where there is room. */
static void make_room(struct saver *v)
{
    int units, few = GATHERS + 2 + WRITER_SLOTS;
    int64_t bytes = save_share(&v->l, v->rank, &units, NULL);
    units += WRITER_SLOTS;
    if (units <= few || units <= v->ring.count + WRITER_SLOTS || bytes <= v->as.room) {
        ring_grow(&v->ring, units > few ? units : few);
        return;
    }
    ring_grow(&v->ring, few);
    if (v->as.root && !v->said)
        notice("training waits while its checkpoints are written: a snapshot would take %" PRId64
               " MiB on this rank, which may have %" PRId64,
               bytes >> 20, v->as.room >> 20);
    v->said = true;
}

void saver_prepare(struct saver *v, const struct rank_state *s, int64_t room)
{
    struct ckpt_map l;
    int units;
    int64_t *sizes;
    map_init(&l, s->plan, MAP_STATE, 0);
    if (save_share(&l, v->rank, &units, &sizes) <= room && units)
        ring_prepare(&v->ring, sizes, units);
    free(sizes);
    map_release(&l);
}

/* With s, as or gradients, dir and final set. */
static int begin(struct saver *v)
{
    v->busy = true;
    v->begun = now_s();
    map_init(&v->l, v->s->plan, v->gradients ? MAP_GRADIENTS : MAP_STATE, v->gradients ? -1 : v->as.step);
    units_init(&v->u, &v->l, v->rank);
    v->touched = xcalloc(v->l.file_count, sizeof *v->touched);
    v->writer = (struct writer){0};
    ring_settle(&v->ring);
    make_room(v);
    if (v->rank == 0 && make_tree(v) < 0)
        save_failed(v);
    writer_start(&v->writer, &v->ring, &v->l, v->dir, v->touched);
    if (agree(v) < 0 || save_units(v) < 0)
        return doomed(v);
    v->walked = now_s();
    return 0;
}

bool saver_written(struct saver *v)
{
    return !v->busy || writer_done(&v->writer);
}

int saver_end(struct saver *v, struct saved *out, bool *agreed)
{
    int64_t total = 0;
    double asked = now_s();
    v->agreed = agreed;
    if (writer_join(&v->writer) < 0)
        save_failed(v);
    if (agree(v) < 0 || save_gather_ranges(v) < 0)
        return doomed(v);
    double written = now_s();
    if (v->rank == 0 && seal(v, v->final, &total) < 0)
        save_failed(v);
    if (agree(v) < 0 || host_broadcast(v->world, 0, &total, sizeof total) < 0)
        return doomed(v);
    if (out)
        *out = (struct saved){total, v->walked - v->begun, written - v->walked, written - asked,
                              now_s() - written};
    release(v);
    return 0;
}

void saver_abandon(struct saver *v)
{
    if (v->busy)
        doomed(v);
}

int saver_begin(struct saver *v, const struct rank_state *s, const struct save_as *as, bool *agreed)
{
    v->state = *s;
    v->s = &v->state;
    v->as = *as;
    v->as.state_json = v->state_json = as->state_json ? xstrdup(as->state_json) : NULL;
    v->as.algorithms = v->algorithms = as->algorithms ? xstrdup(as->algorithms) : NULL;
    v->agreed = agreed;
    v->dir = step_hidden_path(as->root, as->step, as->line->run, "tmp");
    v->final = step_path(as->root, as->step);
    return begin(v);
}

struct saver *saver_new(struct comm *c)
{
    struct saver *v = xcalloc(1, sizeof *v);
    v->comm = c;
    v->world = comm_world(c);
    v->rank = comm_rank(c);
    v->size = comm_size(c);
    return v;
}

void saver_free(struct saver *v)
{
    if (!v)
        return;
    saver_abandon(v);
    ring_settle(&v->ring);
    if (!comm_fault(v->comm))
        ring_release(&v->ring);
    free(v);
}

int checkpoint_save(const struct rank_state *s, struct comm *c, const struct save_as *as, int64_t *bytes,
                    bool *agreed)
{
    struct saver *v = saver_new(c);
    struct saved saved = {0};
    int rc = saver_begin(v, s, as, agreed);
    if (rc == 0)
        rc = saver_end(v, &saved, agreed);
    if (bytes)
        *bytes = saved.bytes;
    saver_free(v);
    return rc;
}

int checkpoint_save_gradients(const struct rank_state *s, struct comm *c, float *const gradients[2],
                              const char *dir, bool *agreed)
{
    struct saver *v = saver_new(c);
    v->state = *s;
    v->s = &v->state;
    v->as = (struct save_as){0};
    v->gradients = gradients;
    v->agreed = agreed;
    v->dir = xasprintf("%s.tmp", dir);
    v->final = xstrdup(dir);
    int rc = begin(v);
    if (rc == 0)
        rc = saver_end(v, NULL, agreed);
    saver_free(v);
    return rc;
}

/* SPDX-License-Identifier: MIT */
#include "train/saves.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alive.h"
#include "base/file.h"
#include "base/halt.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/process.h"
#include "ckpt/save.h"
#include "ckpt/steps.h"
#include "comm/host.h"
#include "engine/optimizer.h"
#include "train/algorithms.h"
#include "train/fault.h"
#include "train/resume.h"
#include "train/weights.h"

/* ---- the root ---- */

/* Rank 0: the root is this run's, and holds no steps that nobody goes on from. */
static int open_root(struct run *run)
{
    const struct train_options *o = run->o;
    struct step_dir *list;
    int aside;
    run->mark = mark_take(o->save, run->id, alive);
    if (!run->mark)
        return -1;
    int count = steps_list(o->save, &list, &aside);
    free(list);
    if (count < 0)
        return -1;
    if (count + aside > 0 && !o->resume)
        return error(STATUS_USAGE,
                     "'%s' holds steps of a run: --resume '%s' goes on from them; a new run saves to another "
                     "directory",
                     o->save, o->save);
    return 0;
}

/* Whether this rank sees the mark of rank 0's: a network file system may take its time. */
static int see_mark(struct run *run)
{
    char *path = path_join(run->o->save, MARK_FILE), *text = NULL;
    size_t bytes;
    for (double end = now_s() + MARK_WATCH_S; now_s() < end;) {
        free(text);
        text = file_exists(path) ? file_read(path, 4096, &bytes) : NULL;
        if (text && strstr(text, run->id))
            break;
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        alive();
    }
    bool seen = text && strstr(text, run->id);
    error_clear();
    free(text);
    free(path);
    return seen ? 0
                : error(STATUS_ENV, "--save '%s' on host '%s' is not what rank 0's, '%s', sees there",
                        run->o->save, run->host, run->first_host);
}

int saves_open(struct run *run)
{
    if (run_is_first(run))
        run_id_draw(run->id);
    TRY(host_broadcast(comm_world(run->comm), 0, run->id, sizeof run->id));
    if (!run->o->save)
        return 0;
    TRY(run_agree(run, run_is_first(run) ? open_root(run) : 0));
    return run_agree(run, see_mark(run));
}

/* Rank 0. */
static int check_line(const struct run *run)
{
    struct step_dir *list;
    int count = steps_list(run->o->save, &list, NULL), complete = 0, ours = 0;
    for (int i = 0; i < count; i++) {
        struct line l = {0};
        char *dir = step_path(run->o->save, list[i].step);
        complete += list[i].complete;
        ours += list[i].complete && step_line(dir, &l) == 0 && line_has(&run->line, l.run, list[i].step);
        line_release(&l);
        free(dir);
    }
    free(list);
    if (count < 0)
        return -1;
    error_clear();
    return complete && !ours
               ? error(STATUS_USAGE,
                       "--save '%s' holds steps of a run that '%s' does not come from: --resume '%s' "
                       "goes on from them; else save to another directory",
                       run->o->save, run->o->resume, run->o->save)
               : 0;
}

int saves_check_line(struct run *run)
{
    return run_agree(run, run->o->save && run_is_first(run) ? check_line(run) : 0);
}

void saves_close(struct run *run)
{
    saver_free(run->saver);
    run->saver = NULL;
    mark_release(run->mark);
    run->mark = NULL;
}

/* ---- a save ---- */

/* What may go: a failure is said and logged, and ends nothing, as the step is saved. */
static int tidy(struct run *run)
{
    const struct train_options *o = run->o;
    int r = run->tidied ? 0 : steps_tidy(o->save, &run->line);
    if (r == 0 && o->keep > 0)
        r = checkpoint_prune(o->save, (int)o->keep, &run->line);
    run->tidied = true;
    if (r == 0)
        return 0;
    struct heard h = {.status = error_status()};
    snprintf(h.text, sizeof h.text, "%s", error_text());
    complain("%s", h.text);
    error_clear();
    return fault_survived(run, "prune", &h);
}

/* How much longer steps take while a save is being written, as a share; NAN where there were none of a kind. */
static double slowdown(const struct run *run)
{
    const struct pace *beside = &run->pace[true], *alone = &run->pace[false];
    return beside->steps && alone->steps
               ? beside->time_s / (double)beside->steps / (alone->time_s / (double)alone->steps) - 1
               : NAN;
}

/* Rank 0, when the step has its name: the record, then what may go. */
static int keep_house(struct run *run, const struct saved *saved)
{
    char *path = step_path(run->o->save, run->saving);
    json_t *record = json_pack(
        "{s:s,s:I,s:o,s:I,s:f,s:f,s:f,s:f,s:f,s:o}", "kind", "save", "step", (json_int_t)run->saving, "path",
        json_bytes(path), "bytes", (json_int_t)saved->bytes, "time_s",
        saved->snapshot_s + saved->wait_s + saved->seal_s, "snapshot_s", saved->snapshot_s, "write_s",
        saved->write_s, "wait_s", saved->wait_s, "seal_s", saved->seal_s, "slowdown", log_real(slowdown(run)));
    int r = log_write(&run->log, record);
    free(path);
    if (r == 0)
        r = mark_check(run->mark);
    return r == 0 ? tidy(run) : r;
}

/* Rank 0 says and logs it. */
static int report_failure(struct run *run)
{
    const struct heard *h = &run->failed_save;
    char rank[32] = "";
    if (!run_is_first(run))
        return 0;
    if (h->rank)
        snprintf(rank, sizeof rank, "rank %d: ", h->rank);
    complain("%sthe checkpoint of step %" PRId64 " was not saved: %s", rank, run->saving, h->text);
    return fault_survived(run, "checkpoint", h);
}

/* r is what a part of the save returned. 1: it failed, which is told and survived. */
static int survive(struct run *run, int r, bool agreed)
{
    if (r < 0 && !agreed)
        return r;
    r = comm_hear(run->comm, r, &run->failed_save);
    return r == 1 && run_agree(run, report_failure(run)) < 0 ? -1 : r;
}

/* An update can leave the numbers without the loss having shown it. Weights that were not finite when they
 * were read, in the row of a token that is never seen, say, do not count. */
static int check_update(struct run *run)
{
    bool finite;
    int r = states_finite(&run->e, run->finite, &finite);
    if (r == 0 && !finite)
        r = error(STATUS_NO,
                  "step %" PRId64
                  ": the update left weights that are not finite: the run has diverged, and this step "
                  "is not saved",
                  run->step);
    return run_agree(run, r);
}

/* A root that another run has taken ends this one; one that is not there fails the save, told by
 * run->failed_save. */
static int keep_mark(struct run *run)
{
    bool lost = false;
    int r = run_is_first(run) ? mark_keep(run->mark, &lost) : 0;
    TRY(run_agree(run, lost ? -1 : 0));
    return comm_hear(run->comm, r, &run->failed_save) < 0 ? -1 : 0;
}

/* What a snapshot may take: this rank's part of half of what its host has left, as files need memory too. */
static int64_t snapshot_room(const struct run *run)
{
    return process_available_bytes() / 2 / comm_local_ranks(run->comm);
}

/* The save before may be under way still. Said once, of a wait that one feels. */
static int end_earlier(struct run *run)
{
    double begin = now_s();
    TRY(saves_end(run));
    double waited = now_s() - begin;
    if (waited > 1 && !run->said_wait)
        notice("the checkpoint of step %" PRId64 " was still being written when that of step %" PRId64
               " was due: training waited %.1f s for it, and will again",
               run->saving, run->step, waited);
    run->said_wait |= waited > 1;
    return 0;
}

void saves_prepare(struct run *run)
{
    if (!run->o->save)
        return;
    struct rank_state s = run_state(run);
    run->saver = saver_new(run->comm);
    saver_prepare(run->saver, &s, snapshot_room(run));
}

int saves_begin(struct run *run)
{
    TRY(end_earlier(run));
    halt_at("save");
    TRY(check_update(run));
    TRY(keep_mark(run));
    run->saving = run->step;
    if (*run->failed_save.text)
        return run_agree(run, report_failure(run));
    struct rank_state s = run_state(run);
    char *algorithms;
    TRY(algorithms_gather(run, &algorithms));
    char *text = run_state_text(run);
    const struct save_as as = {.root = run->o->save,
                               .step = run->step,
                               .state_json = text,
                               .algorithms = algorithms,
                               .line = &run->line,
                               .mark = run->mark,
                               .room = snapshot_room(run)};
    bool agreed = false;
    int r = saver_begin(run->saver, &s, &as, &agreed);
    free(text);
    free(algorithms);
    r = survive(run, r, agreed);
    run->save_pending = r == 0;
    memset(&run->pace[true], 0, sizeof run->pace[true]);
    return r < 0 ? -1 : 0;
}

bool saves_written(const struct run *run)
{
    return !run->save_pending || saver_written(run->saver);
}

int saves_end(struct run *run)
{
    if (!run->save_pending)
        return 0;
    struct saved saved;
    bool agreed = false;
    int r = saver_end(run->saver, &saved, &agreed);
    run->save_pending = false;
    r = survive(run, r, agreed);
    if (r != 0)
        return r < 0 ? -1 : 0;
    run->saved = run->saving;
    return run_agree(run, run_is_first(run) ? keep_house(run, &saved) : 0);
}

void saves_count_step(struct run *run, double time_s)
{
    struct pace *p = &run->pace[run->save_pending];
    p->time_s += time_s;
    p->steps++;
}

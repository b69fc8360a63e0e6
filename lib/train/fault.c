/* SPDX-License-Identifier: MIT */
/* A marker is the record alone, in a file LOG.fault.HOST (and .2, .3 … where one of another job lies); of
 * the ranks of a job on a host the first one leaves it. */
#include "train/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/words.h"

#define MARK       ".fault."
#define UNFINISHED ".tmp"
#define MARK_BYTES ((size_t)64 << 10)
enum { MOST_MARKERS = 16 }; /* of a host: those that no start has gathered yet */

static json_t *record_of(const struct comm_fault *f, int me, const char *device, int64_t step,
                         const char *reason)
{
    char host[HOST_NAME];
    json_t *awaited = json_array();
    for (int i = 0; f && i < f->awaited_count; i++)
        json_array_append_new(awaited, json_integer(f->awaited[i]));
    process_host(host);
    int rank = f ? f->rank : me;
    const char *its = rank == me ? host : f->host;
    json_t *r = json_pack("{s:s,s:o,s:i,s:o?,s:s?,s:s?,s:s?,s:o,s:o,s:o}", "kind", "fault", "rank",
                          rank < 0 ? json_null() : json_integer(rank), "reported_by", me, "host",
                          its && *its ? json_bytes(its) : json_null(), "device", device, "collective",
                          f && *f->collective ? f->collective : NULL, "group", f && *f->group ? f->group : NULL,
                          "awaited", awaited, "step", step < 0 ? json_null() : json_integer(step), "reason",
                          json_bytes(reason));
    json_object_set_new(r, "job", json_bytes(launcher_job()));
    return r;
}

/* ---- markers ---- */

/* Whether there can be markers: the log is a file, or will be. */
static bool has_markers(const char *log)
{
    struct stat st;
    return log && strcmp(log, "-") != 0 && (stat(log, &st) != 0 || S_ISREG(st.st_mode));
}

/* Whole under its name or not at all, and never in the place of another: 1, 0 when there is one, -1. It is
 * synced last: the launcher kills soon, and a disk may be slow. */
static int publish(const char *text, const char *temporary, const char *final)
{
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return error_errno("cannot write '%s'", temporary);
    int r = pwrite_all(fd, text, strlen(text), 0, temporary);
    if (r == 0 && link(temporary, final) == 0)
        r = 1;
    else if (r == 0 && errno != EEXIST && access(final, F_OK) != 0) /* a file system without links */
        r = rename(temporary, final) == 0 ? 1 : error_errno("cannot write '%s'", final);
    unlink(temporary);
    int synced = r > 0 ? file_sync(fd, final) : 0;
    close(fd);
    return synced < 0 ? -1 : r;
}

/* Whether the marker that is there was left by this job: then this rank need not say it again. */
static bool is_of_job(const char *path, const json_t *mine)
{
    const char *job = json_string_value(json_object_get(mine, "job"));
    char *text = file_read(path, MARK_BYTES, NULL);
    json_t *its = text ? json_loads(text, 0, NULL) : NULL;
    const char *other = json_string_value(json_object_get(its, "job"));
    bool same = job && *job && other && strcmp(job, other) == 0;
    json_decref(its);
    free(text);
    return same;
}

/* 1, 0 when another rank of the job has left one, -1. */
static int mark(const char *log, json_t *record)
{
    char host[HOST_NAME], *text = json_dumps(record, JSON_COMPACT);
    process_host(host);
    for (char *s = host; *s; s++)
        if (*s == '/')
            *s = '_';
    char *name = xasprintf("%s" MARK "%s", log, *host ? host : "unknown"), *final = NULL;
    char *temporary = xasprintf("%s.%d" UNFINISHED, name, (int)getpid());
    bool there = false;
    int r = text ? 0 : -1;
    for (int n = 1; r == 0 && !there && n <= MOST_MARKERS; n++) {
        free(final);
        final = n == 1 ? xstrdup(name) : xasprintf("%s.%d", name, n);
        r = publish(text, temporary, final);
        there = r == 0 && is_of_job(final, record);
    }
    if (r == 0 && !there)
        r = error(STATUS_ENV, "'%s' and %d more beside it wait for a start with this log", name,
                  MOST_MARKERS - 1);
    free(temporary);
    free(final);
    free(name);
    free(text);
    return r;
}

/* The text of error() as it was, unless another rank of this host says it. */
static void leave_mark(const char *log, json_t *record, enum status status, const char *reason)
{
    if (!has_markers(log)) {
        error(status, "%s", reason);
        return;
    }
    int r = mark(log, record);
    char *unmarked = r < 0 ? xasprintf(" (it leaves no record: %s)", error_text()) : xstrdup("");
    error(status, "%s%s", r == 0 ? "" : reason, unmarked);
    free(unmarked);
}

void fault_report(struct run *run)
{
    char reason[1024];
    enum status status = error_status();
    snprintf(reason, sizeof reason, "%s", error_text());
    const struct comm_fault *f = comm_fault(run->comm);
    json_t *record = record_of(f, comm_rank(run->comm), run->be ? run->be->name : NULL, run->step, reason);
    if (!run->log.f) {
        leave_mark(run->o->log, record, status, reason);
    } else if (f && (f->told || f->gone) && fault_gather(&run->log, run->o->log, false) > 0) {
        error(status, "%s", ""); /* a rank that has ended since was the first to notice, and knows better */
    } else {
        log_write(&run->log, json_incref(record));
        error(status, "%s", reason);
    }
    json_decref(record);
}

int fault_survived(struct run *run, const char *what, const struct heard *h)
{
    struct comm_fault f = {.rank = h->rank};
    snprintf(f.collective, sizeof f.collective, "%s", what);
    json_t *record = record_of(&f, comm_rank(run->comm), run->be->name, run->step, h->text);
    json_object_set_new(record, "reported_by", json_integer(h->rank));
    return log_write(&run->log, record);
}

void fault_report_early(const struct train_options *o, const struct comm_fault *f)
{
    char reason[1024];
    enum status status = error_status();
    snprintf(reason, sizeof reason, "%s", error_text());
    json_t *record = record_of(f, launcher_rank(), NULL, -1, reason);
    leave_mark(o->log, record, status, reason);
    json_decref(record);
}

/* ---- gathering ---- */

/* What has no name of its own yet: one on its way, or, of an earlier start, of a rank that was killed as it
 * wrote, by one that had said why before. A rank that lives yet then says its fault itself: mark(). */
static int drop(const char *path, bool earlier)
{
    if (!earlier)
        return 0;
    if (unlink(path) != 0)
        return errno == ENOENT ? 0 : error_errno("cannot remove '%s'", path);
    notice("'%s' is removed: the rank that wrote it went down before the record was whole", path);
    return 0;
}

/* Takes one marker into the log. What is no record stays where it is: 0. It may be empty, where the host went
 * down before it was synced. */
static int take(struct log *l, const char *path, bool earlier)
{
    char *text = file_read(path, MARK_BYTES, NULL);
    if (text && !*text) {
        free(text);
        return drop(path, earlier);
    }
    json_t *record = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
    const char *kind = json_string_value(json_object_get(record, "kind"));
    const char *reason = json_string_value(json_object_get(record, "reason"));
    int r = 0;
    if (!kind || strcmp(kind, "fault") != 0) {
        notice("'%s' is no record of a fault: left where it is", path);
    } else {
        notice("%s ended by a fault: %s", earlier ? "the run before" : "the run",
               reason ? reason : "no reason given");
        r = log_write(l, json_incref(record));
        if (r == 0 && unlink(path) != 0)
            r = error_errno("cannot remove '%s'", path);
        r = r < 0 ? -1 : 1;
    }
    json_decref(record);
    free(text);
    return r;
}

int fault_gather(struct log *l, const char *log, bool earlier)
{
    if (!has_markers(log))
        return 0;
    const char *slash = strrchr(log, '/'), *base = slash ? slash + 1 : log;
    char *dir = slash ? xasprintf("%.*s", slash == log ? 1 : (int)(slash - log), log) : xstrdup(".");
    char *head = xasprintf("%s" MARK, base);
    struct folder f;
    int count = 0, listed = folder_open(&f, dir);
    for (const char *name; listed == 0 && count >= 0 && (name = folder_next(&f));) {
        if (strncmp(name, head, strlen(head)) != 0)
            continue;
        char *path = path_join(dir, name);
        int r = ends_in(path, UNFINISHED) ? drop(path, earlier) : take(l, path, earlier);
        count = r < 0 ? -1 : count + r;
        free(path);
    }
    if (listed < 0 || folder_close(&f, 0) < 0)
        notice("records of faults beside the log may be overlooked: %s", error_text());
    free(head);
    free(dir);
    return count;
}

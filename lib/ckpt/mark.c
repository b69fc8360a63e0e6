/* SPDX-License-Identifier: MIT */
#include "ckpt/mark.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/process.h"
#include "ckpt/line.h"

enum { MARK_BYTES = 2048 }; /* room for its text: of a name's bytes JSON may make six each */

struct mark {
    char *root, *path;
    char run[RUN_ID], host[HOST_NAME], job[64]; /* job: Slurm's "ID.RESTARTS" */
    char space[96];                             /* in which process numbers mean something */
    pthread_t thread;
    bool beating;
    pthread_mutex_t lock;
    pthread_cond_t ending;
    bool ends;
};

/* What a mark says. */
struct seen {
    bool there;
    char text[MARK_BYTES];
    char run[RUN_ID], host[HOST_NAME], job[64], space[96];
    long pid;
};

static void take_text(const json_t *o, const char *key, char *to, size_t room)
{
    const char *text = json_string_value(json_object_get(o, key));
    snprintf(to, room, "%s", text ? text : "");
}

/* A mark that is half written, or none of ours, has a text and no more: it is watched like any other. No
 * errors: those of others must last. */
static void look(const char *path, struct seen *s)
{
    *s = (struct seen){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    s->there = read(fd, s->text, sizeof s->text - 1) >= 0;
    close(fd);
    json_t *o = json_loads(s->text, 0, NULL);
    take_text(o, "run", s->run, sizeof s->run);
    take_text(o, "host", s->host, sizeof s->host);
    take_text(o, "job", s->job, sizeof s->job);
    take_text(o, "space", s->space, sizeof s->space);
    s->pid = (long)json_integer_value(json_object_get(o, "pid"));
    json_decref(o);
}

/* Opened and closed each time: other hosts of a network file system then see it. */
static int put(const struct mark *m, int flags, long beat)
{
    int fd = open(m->path, O_WRONLY | O_CLOEXEC | flags, 0666);
    if (fd < 0)
        return -1;
    char *text = NULL;
    json_t *o =
        json_pack("{s:s,s:o,s:I,s:s,s:o,s:I}", "run", m->run, "host", json_bytes(m->host), "pid",
                  (json_int_t)getpid(), "space", m->space, "job", json_bytes(m->job), "beat", (json_int_t)beat);
    if (o)
        text = json_dumps(o, 0);
    json_decref(o);
    char line[MARK_BYTES];
    int n = snprintf(line, sizeof line, "%-383s\n", text ? text : ""); /* one length, written over in place */
    free(text);
    int r = pwrite(fd, line, (size_t)n, 0) == n ? 0 : -1, e = errno;
    if (close(fd) != 0 && r == 0)
        r = -1, e = errno;
    if (r < 0 && (flags & O_EXCL))
        unlink(m->path); /* an empty one would be watched by the next run */
    errno = e;
    return r;
}

static bool is_mine(const struct mark *m)
{
    struct seen s;
    look(m->path, &s);
    return strcmp(s.run, m->run) == 0;
}

static void *beat(void *arg)
{
    struct mark *m = arg;
    struct timespec next;
    pthread_mutex_lock(&m->lock);
    for (long n = 1; !m->ends; n++) {
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += MARK_BEAT_S;
        while (!m->ends && pthread_cond_timedwait(&m->ending, &m->lock, &next) == 0)
            ;
        if (!m->ends && is_mine(m))
            put(m, 0, n); /* a beat that fails is one that is missed */
    }
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* The thread leaves signals to the one that trains. */
static int start_beating(struct mark *m)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(&m->thread, NULL, beat, m);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    m->beating = code == 0;
    errno = code;
    return code ? error_errno("cannot start a thread") : 0;
}

/* Whether whoever made the mark cannot be alive. */
static bool is_gone(const struct mark *m, const struct seen *s)
{
    size_t id = strcspn(m->job, ".");
    if (id && strncmp(s->job, m->job, id + 1) == 0 && strcmp(s->job, m->job) != 0)
        return true; /* Slurm starts a job again only after all of it has ended */
    if (s->pid <= 0 || !*s->space || strcmp(s->space, m->space) != 0)
        return false;
    return (kill((pid_t)s->pid, 0) != 0 && errno == ESRCH) || process_state((int)s->pid) == 'Z';
}

/* Whether the mark changes while this one looks on. A run that is still ending is seen to end. */
static bool watch(const struct mark *m, const struct seen *first, void (*waiting)(void))
{
    bool same = true;
    notice("'%s' is marked by a run on host '%s' (process %ld): watching for %d s whether it lives", m->root,
           first->host, first->pid, MARK_WATCH_S);
    for (double end = now_s() + MARK_WATCH_S; same && now_s() < end;) {
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
        if (waiting)
            waiting();
        struct seen s;
        look(m->path, &s);
        same = s.there && strcmp(s.text, first->text) == 0;
        if (same && is_gone(m, first))
            break;
    }
    return !same;
}

/* Renamed first and looked at again, as another waiter may have been faster: then its mark goes back. */
static int put_away(struct mark *m, const struct seen *dead)
{
    struct seen s;
    char *away = xasprintf("%s.%s", m->path, m->run);
    int r = rename(m->path, away) != 0 && errno != ENOENT ? error_errno("cannot rename '%s'", m->path) : 0;
    look(away, &s);
    bool same = strcmp(s.text, dead->text) == 0;
    if (r == 0 && s.there && !same && link(away, m->path) != 0 && errno != EEXIST)
        r = error_errno("cannot write '%s'", m->path);
    if (r == 0 && s.there)
        unlink(away);
    if (r == 0 && s.there && same)
        notice("'%s' was marked by a run on host '%s' that is no more: taken over", m->root, dead->host);
    free(away);
    return r;
}

/* Somebody's mark out of the way: 0, or -1 when it is alive. */
static int take_over(struct mark *m, void (*waiting)(void))
{
    struct seen s;
    look(m->path, &s);
    bool gone = !s.there || is_gone(m, &s), alive = !gone && watch(m, &s, waiting);
    if (alive)
        return error(STATUS_ENV,
                     "'%s' is in use by a run on host '%s' (process %ld): one run at a time writes there",
                     m->root, s.host, s.pid);
    return s.there ? put_away(m, &s) : 0;
}

static int take(struct mark *m, void (*waiting)(void))
{
    TRY(make_dirs(m->root));
    for (int tries = 0; put(m, O_CREAT | O_EXCL, 0) != 0; tries++) {
        if (errno != EEXIST || tries == 3)
            return error_errno("cannot write '%s'", m->path);
        TRY(take_over(m, waiting));
    }
    if (!is_mine(m)) /* two waiters, and the other was later */
        return error(STATUS_ENV, "'%s' is in use by a run that has just started", m->root);
    return start_beating(m);
}

/* This boot of this host, and the space of process numbers that a container may have of its own. "": not
 * known. */
static void name_space(char *text, size_t room)
{
    char boot[40] = "", pids[40] = "";
    FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (f) {
        if (!fgets(boot, sizeof boot, f))
            *boot = '\0';
        fclose(f);
    }
    boot[strcspn(boot, "\n")] = '\0';
    ssize_t n = readlink("/proc/self/ns/pid", pids, sizeof pids - 1);
    snprintf(text, room, "%s%s%s", n > 0 ? boot : "", n > 0 && *boot ? " " : "", n > 0 && *boot ? pids : "");
}

struct mark *mark_take(const char *root, const char *run, void (*waiting)(void))
{
    const char *job = getenv("SLURM_JOB_ID"), *again = getenv("SLURM_RESTART_COUNT");
    struct mark *m = xcalloc(1, sizeof *m);
    m->root = xstrdup(root);
    m->path = path_join(root, MARK_FILE);
    snprintf(m->run, sizeof m->run, "%s", run);
    snprintf(m->job, sizeof m->job, "%s.%s", job ? job : "", again ? again : "0");
    process_host(m->host);
    name_space(m->space, sizeof m->space);
    pthread_condattr_t monotonic; /* a clock that is set must not stop the beats */
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->ending, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (take(m, waiting) == 0)
        return m;
    free(m->root);
    free(m->path);
    free(m);
    return NULL;
}

int mark_keep(const struct mark *m, bool *lost)
{
    struct seen s;
    look(m->path, &s);
    *lost = s.there && strcmp(s.run, m->run) != 0;
    if (*lost)
        return mark_check(m);
    if (s.there || put(m, O_CREAT | O_EXCL, 0) == 0)
        return 0;
    return error_errno("cannot write '%s'", m->path);
}

int mark_check(const struct mark *m)
{
    if (is_mine(m))
        return 0;
    struct seen s;
    look(m->path, &s);
    return s.there ? error(STATUS_ENV, "'%s' is no longer this run's: a run on host '%s' has taken it over",
                           m->root, s.host)
                   : error(STATUS_ENV, "'%s' is no longer this run's: its mark " MARK_FILE " is gone", m->root);
}

void mark_release(struct mark *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    m->ends = true;
    pthread_cond_signal(&m->ending);
    pthread_mutex_unlock(&m->lock);
    if (m->beating)
        pthread_join(m->thread, NULL);
    if (is_mine(m))
        unlink(m->path);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->ending);
    free(m->root);
    free(m->path);
    free(m);
}

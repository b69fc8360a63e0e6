/* SPDX-License-Identifier: MIT */
#include "comm/watchdog.h"

#include <ctype.h>
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/process.h"

#define LOOK_S 0.05

struct watchdog {
    struct comm *c;
    const char *what;
    double timeout_s;
    bool told, stopped;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stop;
};

/* ---- the ranks that the same daemon of the launcher has started ---- */

/* NAME=VALUE of an environment as /proc gives it, its entries ended by NULs; NULL when it is not there. */
static const char *entry(const char *env, size_t bytes, const char *name)
{
    size_t n = strlen(name);
    for (const char *at = env; at < env + bytes; at += strlen(at) + 1)
        if (strncmp(at, name, n) == 0 && at[n] == '=')
            return at + n + 1;
    return NULL;
}

/* The rank of a process that is of this job and has this one's parent; -1 when it is none. */
static int rank_of(int pid)
{
    char path[40];
    const char *job = getenv("PMIX_NAMESPACE");
    if (!job || process_parent(pid) != (int)getppid())
        return -1;
    snprintf(path, sizeof path, "/proc/%d/environ", pid);
    size_t bytes;
    char *env = file_read(path, (size_t)4 << 20, &bytes);
    const char *its = env ? entry(env, bytes, "PMIX_NAMESPACE") : NULL;
    const char *rank = its && strcmp(its, job) == 0 ? entry(env, bytes, "PMIX_RANK") : NULL;
    int r = rank ? atoi(rank) : -1;
    free(env);
    return r;
}

/* The lowest rank that is stopped or, when all ranks are on this host, the only one that is gone; else -1. */
static int lost_sibling(void)
{
    int ranks = launcher_ranks() == launcher_local_ranks() ? launcher_ranks() : 0, there = 0, lost = -1;
    bool *seen = xcalloc((size_t)ranks + 1, sizeof *seen);
    DIR *proc = opendir("/proc");
    for (struct dirent *e; proc && (e = readdir(proc));) {
        int pid = isdigit((unsigned char)e->d_name[0]) ? atoi(e->d_name) : 0, rank = pid ? rank_of(pid) : -1;
        char state = rank < 0 ? 0 : process_state(pid);
        if (state == 'T' && (lost < 0 || rank < lost))
            lost = rank;
        if (rank >= 0 && rank < ranks && state && state != 'Z' && !seen[rank])
            seen[rank] = true, there++;
    }
    if (proc)
        closedir(proc);
    for (int r = 0; r < ranks && lost < 0 && there == ranks - 1; r++)
        if (!seen[r])
            lost = r;
    free(seen);
    return lost;
}

/* ---- the thread ---- */

static _Noreturn void bite(struct watchdog *w, bool told)
{
    struct comm_fault f = {.rank = lost_sibling(), .told = told};
    char why[64] = "", who[64] = "";
    snprintf(f.collective, sizeof f.collective, "%s", w->what);
    if (told)
        snprintf(why, sizeof why, "told to end before it was done");
    else
        snprintf(why, sizeof why, "not done within %g s", w->timeout_s);
    if (f.rank >= 0) {
        process_host(f.host);
        snprintf(who, sizeof who, ": rank %d is stopped or gone", f.rank);
    }
    error(STATUS_ENV, "%s: %s%s", w->what, why, who);
    if (w->c->last_words)
        w->c->last_words(&f);
    _exit(STATUS_ENV);
}

static void *watch(void *arg)
{
    struct watchdog *w = arg;
    double watched = 0, last = now_s();
    pthread_mutex_lock(&w->lock);
    while (!w->stopped) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += (long)(LOOK_S * 1e9);
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&w->stop, &w->lock, &until);
        double now = now_s();
        watched += fmin(now - last, 20 * LOOK_S); /* this process may have been stopped itself */
        last = now;
        bool told = w->told && comm_told_to_end();
        if (!w->stopped && (told || (w->timeout_s > 0 && watched > w->timeout_s)))
            bite(w, told);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

struct watchdog *watchdog_start(struct comm *c, const char *what, double timeout_s, bool told)
{
    struct watchdog *w = xcalloc(1, sizeof *w);
    *w = (struct watchdog){.c = c, .what = what, .timeout_s = timeout_s, .told = told};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->stop, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigset_t all, before; /* signals are the main thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&w->thread, NULL, watch, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return w;
    free(w); /* no thread: unwatched */
    return NULL;
}

void watchdog_stop(struct watchdog *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    w->stopped = true;
    pthread_cond_signal(&w->stop);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->stop);
    free(w);
}

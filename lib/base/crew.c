/* SPDX-License-Identifier: MIT */
/* A ring of slots: [tail,back) came back, [back,begun) are being done or done, [begun,head) wait for a hand,
 * [head,filled) are being filled. */
#include "base/crew.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "base/alive.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/notice.h"

/* What the crew knows of a slot, beside the job. */
struct crew_state {
    bool done;
    enum status status;
    char *why;
};

struct crew_hand {
    struct crew *crew;
    int hand;
    pthread_t id;
};

struct crew {
    pthread_mutex_t lock;
    pthread_cond_t given, done;
    crew_work *work;
    void *with;
    int slots;
    int64_t job_bytes;
    char *jobs;
    struct crew_state *states;
    int64_t filled, head, begun, back, tail;
    int64_t finished; /* jobs */
    bool stop;
    struct crew_hand *hands;
    int started; /* threads beside the caller's */
};

static struct crew_job *slot_job(struct crew *c, int64_t i)
{
    return (struct crew_job *)(c->jobs + i % c->slots * c->job_bytes);
}

/* Does the next job; the lock is held before and after. */
static void do_next(struct crew *c, int hand)
{
    int64_t i = c->begun++;
    struct crew_job *job = slot_job(c, i);
    struct crew_state *s = &c->states[i % c->slots];
    pthread_mutex_unlock(&c->lock);
    job->failed = c->work(c->with, job, hand) < 0;
    if (job->failed) {
        s->why = xstrdup(error_text());
        s->status = error_status();
    }
    pthread_mutex_lock(&c->lock);
    s->done = true;
    c->finished++;
    pthread_cond_broadcast(&c->done);
}

static void *run_hand(void *arg)
{
    struct crew_hand *h = arg;
    struct crew *c = h->crew;
    pthread_mutex_lock(&c->lock);
    while (!c->stop)
        if (c->begun < c->head)
            do_next(c, h->hand);
        else
            pthread_cond_wait(&c->given, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

struct crew *crew_start(int threads, int slots, int64_t job_bytes, crew_work *work, void *with)
{
    struct crew *c = xcalloc(1, sizeof *c);
    *c = (struct crew){.work = work, .with = with, .slots = slots, .job_bytes = job_bytes};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->given, NULL);
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&c->done, &clock);
    pthread_condattr_destroy(&clock);
    c->jobs = xcalloc(slots, job_bytes);
    c->states = xcalloc(slots, sizeof *c->states);
    c->hands = xcalloc(threads, sizeof *c->hands);
    for (int i = 1; i < threads; i++) {
        c->hands[c->started] = (struct crew_hand){.crew = c, .hand = c->started + 1};
        if (pthread_create(&c->hands[c->started].id, NULL, run_hand, &c->hands[c->started]) != 0)
            break; /* fewer hands do it too */
        c->started++;
    }
    return c;
}

void *crew_slot(struct crew *c)
{
    return c->filled - c->tail < c->slots ? slot_job(c, c->filled++) : NULL;
}

void crew_submit(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    c->head++;
    pthread_cond_signal(&c->given);
    pthread_mutex_unlock(&c->lock);
}

/* With the lock held: until something is done, or for a moment. */
static void wait_a_moment(struct crew *c)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += 100000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_cond_timedwait(&c->done, &c->lock, &until);
    pthread_mutex_unlock(&c->lock);
    alive();
    pthread_mutex_lock(&c->lock);
}

void *crew_wait(struct crew *c)
{
    if (c->back == c->head)
        return NULL;
    struct crew_state *s = &c->states[c->back % c->slots];
    pthread_mutex_lock(&c->lock);
    while (!s->done)
        if (c->begun < c->head)
            do_next(c, 0);
        else
            wait_a_moment(c);
    pthread_mutex_unlock(&c->lock);
    struct crew_job *job = slot_job(c, c->back++);
    if (job->failed)
        error(s->status, "%s", s->why);
    return job;
}

void crew_free(struct crew *c)
{
    struct crew_state *s = &c->states[c->tail % c->slots];
    free(s->why);
    *s = (struct crew_state){0};
    c->tail++;
}

bool crew_idle(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    bool idle = c->finished == c->head;
    pthread_mutex_unlock(&c->lock);
    return idle;
}

void crew_stop(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    c->stop = true;
    pthread_cond_broadcast(&c->given);
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < c->started; i++)
        pthread_join(c->hands[i].id, NULL);
    c->started = 0;
}

void *crew_job(struct crew *c, int i)
{
    return i < c->slots ? slot_job(c, i) : NULL;
}

void crew_release(struct crew *c)
{
    crew_stop(c);
    for (int i = 0; i < c->slots; i++)
        free(c->states[i].why);
    pthread_mutex_destroy(&c->lock);
    pthread_cond_destroy(&c->given);
    pthread_cond_destroy(&c->done);
    free(c->hands);
    free(c->states);
    free(c->jobs);
    free(c);
}

/* ---- a loop ---- */

struct each_job {
    struct crew_job job;
    int i;
};

struct each {
    int (*do_one)(void *with, int i, int hand);
    void *with;
};

static int each_work(void *with, void *job, int hand)
{
    struct each *e = with;
    return e->do_one(e->with, ((struct each_job *)job)->i, hand);
}

int crew_each(int threads, int count, int (*do_one)(void *with, int i, int hand), void *with, const char *doing)
{
    struct each e = {do_one, with};
    struct crew *c = crew_start(threads, 2 * threads, sizeof(struct each_job), each_work, &e);
    struct each_job *job;
    int rc = 0;
    for (int given = 0, done = 0; done < count && rc == 0;) {
        if (given < count && (job = crew_slot(c))) {
            job->i = given++;
            crew_submit(c);
            continue;
        }
        job = crew_wait(c);
        rc = job->job.failed ? -1 : 0;
        crew_free(c);
        progress(doing, (uint64_t)++done, (uint64_t)count, "files");
    }
    progress_end();
    crew_release(c); /* keeps this thread's error */
    return rc;
}

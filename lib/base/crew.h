/* SPDX-License-Identifier: MIT */
/* Jobs that threads do in any order and that come back in the order in which they were given: what reads and
 * writes one stream stays one thread, and only so many jobs are in memory.
 *
 *     while (…) {
 *         if (!(job = crew_slot(c)))          all are taken: the oldest must come back first
 *             …crew_wait(c)…, crew_free(c);
 *         …fill *job…
 *         crew_submit(c);
 *     }
 *     while ((job = crew_wait(c)))            the rest
 *         …, crew_free(c);
 *
 * Several slots may be filled at a time, and several jobs that came back be kept for a while: each of the four
 * calls is about the oldest job that has not had it. */
#ifndef BASE_CREW_H
#define BASE_CREW_H

#include <stdbool.h>
#include <stdint.h>

struct crew;

/* A job starts with this. `failed` is set when work() returned -1; the error is then what crew_wait() left in
 * error_text(). */
struct crew_job {
    int failed;
};

/* work(with, job, hand): in any thread; `hand` is in [0,threads), and at most one job has it at a time, so that
 * it can stand for scratch memory. 0, or -1 with error(). The thread that calls crew_wait() is a hand too. */
typedef int crew_work(void *with, void *job, int hand);

/* `slots` jobs of `job_bytes` each, zeroed; what they point to is the caller's. threads ≥ 1; with 1 all is done
 * by crew_wait(), as where the system gives no more. */
struct crew *crew_start(int threads, int slots, int64_t job_bytes, crew_work *work, void *with);
/* The job to fill next, or NULL when all slots are taken. */
void *crew_slot(struct crew *c);
void crew_submit(struct crew *c);
/* The oldest job submitted, done; NULL when there is none. Waits with signs of life (base/alive.h). */
void *crew_wait(struct crew *c);
void crew_free(struct crew *c);
/* Whether all that was submitted is done. Never waits. */
bool crew_idle(struct crew *c);
/* Waits for what is being done, and forgets the rest. Jobs' memory stays valid until then: crew_job(c, i). */
void crew_stop(struct crew *c);
/* Slot i, for making and releasing what it points to. NULL beyond the last. */
void *crew_job(struct crew *c, int i);
void crew_release(struct crew *c);

/* do_one(with, i, hand) for i in [0,count), the number of a file, on so many threads; -1 at the first failure,
 * with its error. `doing` is shown as progress. */
int crew_each(int threads, int count, int (*do_one)(void *with, int i, int hand), void *with,
              const char *doing);

#endif

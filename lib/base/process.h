/* SPDX-License-Identifier: MIT */
/* What the system says of this process. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <sched.h>
#include <stdint.h>

/* Resident bytes of this process now, and the most there ever were (Linux's VmRSS and VmHWM); 0 where unknown.
 */
int64_t process_resident_bytes(void);
int64_t process_peak_bytes(void);

/* Bytes that this host could still give to this process: what Linux calls available, or what the limits of its
 * control groups (version 2; files in memory do not count) or `ulimit -v` leave; 0 where unknown. */
int64_t process_available_bytes(void);

/* The name of this host, as the job's scheduler calls it where there is one: $SLURMD_NODENAME, else
 * gethostname(). */
enum { HOST_NAME = 64 };
void process_host(char name[static HOST_NAME]);
/* The processors that this process may run on. */
void process_cpus(cpu_set_t *set);
/* What the process does: 'R' running, 'S' sleeping, 'T' stopped, 'Z' dead but not reaped, ...; 0: there is
 * none. */
char process_state(int pid);
int process_parent(int pid); /* 0 when there is no such process */
int64_t process_space(void); /* of process numbers: a number is of the same process to all who have the same */
/* Seconds since the process began for which its threads could run, and others had the processors: of the thread
 * that has waited the longest. NaN where the kernel does not count. */
double process_waited_s(void);
double now_s(void); /* monotonic clock */

#endif

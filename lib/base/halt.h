/* SPDX-License-Identifier: MIT */
/* Lost ranks, for tests: a build with FAULTS=1 stops or kills itself at a named place, as a sick host would.
 * $MOEKIT_HALT is ACTION:PLACE:RANK, ACTION stop or kill: `stop:write:1` is rank 1 stopped at its first write.
 * ACTION slow makes what took so long there take ten times as long; at its places `third` and `once` that is
 * so in each third round of a measurement, or in the second of all. $MOEKIT_SLOW_IO is seconds that each piece
 * of reading and writing takes longer. Other builds have none of it. */
#ifndef BASE_HALT_H
#define BASE_HALT_H

#ifdef MOEKIT_FAULTS
void halt_at(const char *place);
void halt_io(const char *place); /* slow, too */
void halt_slow(const char *place, double took_s);
void halt_round(void); /* a round begins */
#else
#define halt_at(place)           ((void)0)
#define halt_io(place)           ((void)0)
#define halt_slow(place, took_s) ((void)(took_s))
#define halt_round()             ((void)0)
#endif

#endif

/* SPDX-License-Identifier: MIT */
/* Lists of small numbers (ranks, experts, layers) as people write them: "0-3,5". */
#ifndef BASE_RANGES_H
#define BASE_RANGES_H

/* The numbers of `text` in the order written: items separated by commas, each N or FIRST-LAST with FIRST <=
 * LAST. No blanks, no empty item, every number within [min,max] (min >= 0), none twice, at most 2^20 in all.
 * *values is the caller's to free. Returns how many (at least 1), or -1 with error() (status 2), which calls a
 * number `what` ("rank"). */
int ranges_parse(const char *text, int min, int max, const char *what, int **values);

/* The list as ranges_parse() reads it back: runs that rise by one become FIRST-LAST, the order stays. "" for
 * none. Caller frees. */
char *ranges_text(const int *values, int count);

#endif

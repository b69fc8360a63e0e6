/* SPDX-License-Identifier: MIT */
/* What the system says of this process. */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdint.h>

/* Resident bytes of this process now, and the most there ever were (Linux's VmRSS and VmHWM); 0 where unknown.
 */
int64_t process_resident_bytes(void);
int64_t process_peak_bytes(void);

double now_s(void); /* monotonic clock */

#endif

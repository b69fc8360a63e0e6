/* SPDX-License-Identifier: MIT */
/* Loops for the processor that runs them. */
#ifndef KERNELS_HOT_H
#define KERNELS_HOT_H

/* Compiled once for each kind of x86 machine; the right one is picked when the program starts. The sanitizers
 * cannot run before they are set up, which is when the picking happens. Clang 14 picks wrongly between levels,
 * and lets the copies of static functions clash. Without copies the same loops are vectorised for what every
 * machine of the target has: SSE2, or NEON. HOT_LEVELS says that there are copies. */
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define HOT __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#define HOT_LEVELS
#else
#define HOT
#endif

/* What a HOT function calls in its loops is part of it. */
#define LOOP static inline __attribute__((always_inline))

#endif

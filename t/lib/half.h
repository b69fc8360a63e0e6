/* SPDX-License-Identifier: MIT */
/* The compiler's own 16-bit float, which the library's conversions are compared with. Clang 14 has _Float16,
 * but not on x86; __fp16 it has everywhere, and gcc does not. */
#ifndef T_LIB_HALF_H
#define T_LIB_HALF_H

#ifdef __clang__
typedef __fp16 half;
#else
typedef _Float16 half;
#endif

#endif

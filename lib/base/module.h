/* SPDX-License-Identifier: MIT */
/* Shared libraries that a program opens when it needs them, so that it starts where they are not. */
#ifndef BASE_MODULE_H
#define BASE_MODULE_H

#include <stdbool.h>

/* The library `file` of ../lib/moekit seen from the program's folder, or of $MOEKIT_LIB where that is set. With
 * `elsewhere`, when there is none it is looked for where the system's loader looks. For dlsym(); NULL with
 * error() set. */
void *module_open(const char *file, bool elsewhere);
/* Where it was found, for messages; lives on. */
const char *module_path(void *module);

#endif

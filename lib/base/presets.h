/* SPDX-License-Identifier: MIT */
/* Where the data files that come with the commands are. */
#ifndef BASE_PRESETS_H
#define BASE_PRESETS_H

/* Directory of the data files (presets): $MOEKIT_DATA, else share/ of the source tree or PREFIX/share/moekit,
 * found from where the program is. Static buffer. */
const char *data_dir(void);
/* Those in a folder of it by name, with `between` in between; "" where there is none. Caller frees. */
char *preset_names(const char *folder, const char *between);
/* That `name` is no `what` ("model"): no file, and none of the presets in a folder of it, which are named.
 * Returns -1. */
int preset_unknown(const char *what, const char *folder, const char *name);

#endif

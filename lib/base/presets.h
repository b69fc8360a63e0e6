/* SPDX-License-Identifier: MIT */
/* Where the data files that come with the commands are. */
#ifndef BASE_PRESETS_H
#define BASE_PRESETS_H

/* Directory of the data files (presets): $MOEKIT_DATA, else share/ of the source tree or PREFIX/share/moekit,
 * found from where the program is. Static buffer. */
const char *data_dir(void);
/* The presets in a directory, "a, b, c" by name; "" where there is none. Caller frees. */
char *presets_text(const char *dir);

#endif

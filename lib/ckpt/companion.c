/* SPDX-License-Identifier: MIT */
#include "ckpt/companion.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "ckpt/names.h"
#include "model/model.h"

bool is_companion(const char *dir, const char *name)
{
    static const char *const ours[] = {CONFIG_FILE, PLAN_FILE, STATE_FILE, MANIFEST_FILE};
    static const char *const weights[] = {".safetensors", ".index.json", ".bin", ".pt",
                                          ".pth",         ".gguf",       ".h5",  ".msgpack"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0)
            return false;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (n > strlen(weights[i]) && strcmp(name + n - strlen(weights[i]), weights[i]) == 0)
            return false;
    struct stat st;
    char *path = path_join(dir, name);
    bool small =
        name[0] != '.' && stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= (off_t)COMPANION_BYTES;
    free(path);
    return small;
}

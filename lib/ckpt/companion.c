/* SPDX-License-Identifier: MIT */
#include "ckpt/companion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/notice.h"
#include "base/words.h"
#include "ckpt/names.h"
#include "model/model.h"

#define COMPANION_BYTES ((size_t)64 << 20) /* at most */

/* Whether a file beside a model is neither the model nor ours. */
static bool is_companion(const char *dir, const char *name)
{
    static const char *const ours[] = {CONFIG_FILE, PLAN_FILE, STATE_FILE, MANIFEST_FILE};
    static const char *const weights[] = {".safetensors", ".index.json", ".bin", ".pt",
                                          ".pth",         ".gguf",       ".h5",  ".msgpack"};
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i]) == 0)
            return false;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (ends_in(name, weights[i]))
            return false;
    struct stat st;
    char *path = path_join(dir, name);
    bool small =
        name[0] != '.' && stat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= (off_t)COMPANION_BYTES;
    free(path);
    return small;
}

static int put(struct manifest *m, const char *from, const char *to, const char *name)
{
    size_t bytes;
    char *path = path_join(from, name), *text = file_read(path, COMPANION_BYTES, &bytes);
    int rc = text ? manifest_put(m, to, name, text, bytes) : -1;
    free(text);
    free(path);
    return rc;
}

int companions_put(struct manifest *m, const char *from, const char *to, const char *but)
{
    struct folder f;
    int rc = 0;
    TRY(folder_open(&f, from));
    for (const char *name; rc == 0 && (name = folder_next(&f));) {
        if (!is_companion(from, name) || (but && strcmp(name, but) == 0))
            continue;
        if (m && !utf8_valid(name))
            complain("%s/%s: left out of the checkpoint: its name is not UTF-8, which a manifest is", from,
                     name);
        else
            rc = put(m, from, to, name);
    }
    return folder_close(&f, rc);
}

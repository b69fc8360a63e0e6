/* SPDX-License-Identifier: MIT */
/* MODEL of the command line: a file, a directory, stdin or a preset. */
#include "model/load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/presets.h"
#include "model/config.h"

enum { MAX_CONFIG_BYTES = 16 << 20 };

static int load_file(struct model *m, const char *path)
{
    size_t bytes;
    char *text = file_read(path, MAX_CONFIG_BYTES, &bytes);
    if (!text)
        return -1;
    const char *where = strcmp(path, "-") == 0 ? "stdin" : path;
    int rc = model_parse(m, text, bytes, where);
    free(text);
    if (rc == 0 && *m->assumed)
        notice("%s: leaves out sizes, which are transformers' for %s: %s", where, model_family(m)->type,
               m->assumed);
    return rc;
}

static int load_preset(struct model *m, const char *name)
{
    char *file = xasprintf("%s/models/%s.json", data_dir(), name);
    int rc = file_exists(file) ? load_file(m, file) : preset_unknown("model", "models", name);
    free(file);
    return rc;
}

static int load_dir(struct model *m, const char *dir)
{
    /* "." and "model/" have a name too; the path in messages stays as it was given */
    char *file = path_join(dir, CONFIG_FILE), *full = realpath(dir, NULL);
    int rc = load_file(m, file);
    if (rc == 0 && full)
        snprintf(m->name, sizeof m->name, "%.63s", strrchr(full, '/') + 1);
    free(full);
    free(file);
    return rc;
}

int model_load(struct model *m, const char *what)
{
    *m = (struct model){0};
    if (is_dir(what))
        return load_dir(m, what);
    if (strcmp(what, "-") == 0 || strchr(what, '/') || file_exists(what))
        return load_file(m, what);
    return load_preset(m, what);
}

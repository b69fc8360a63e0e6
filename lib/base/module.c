/* SPDX-License-Identifier: MIT */
#include "base/module.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

void *module_open(const char *file, bool elsewhere)
{
    char path[PATH_MAX], program[PATH_MAX / 2];
    const char *chosen = getenv("MOEKIT_LIB");
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    program[n > 0 ? n : 0] = '\0';
    char *end = strrchr(program, '/');
    if (end)
        *end = '\0';
    if (chosen && *chosen)
        snprintf(path, sizeof path, "%s/%s", chosen, file);
    else
        snprintf(path, sizeof path, "%s/../lib/moekit/%s", program, file);
    bool here = !elsewhere || access(path, F_OK) == 0;
    void *module = dlopen(here ? path : file, RTLD_NOW | RTLD_LOCAL);
    if (!module)
        error(STATUS_ENV, "%s", dlerror());
    return module;
}

const char *module_path(void *module)
{
    struct link_map *map = NULL;
    return dlinfo(module, RTLD_DI_LINKMAP, &map) == 0 && map->l_name ? map->l_name : "?";
}

/* SPDX-License-Identifier: MIT */
#include "base/presets.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/words.h"

/* Where the data files are, from where this program is: TREE/.build/…/bin/NAME has TREE/share, PREFIX/bin/NAME
 * has PREFIX/share/moekit. So an installed tree may be moved. */
static void beside_program(char *buf, size_t room)
{
    ssize_t n = readlink("/proc/self/exe", buf, room - sizeof "/share/moekit");
    buf[n > 0 ? n : 0] = '\0';
    char *end = strstr(buf, "/.build/");
    if (end) {
        strcpy(end, "/share");
        return;
    }
    for (int up = 0; up < 2; up++)
        if ((end = strrchr(buf, '/')))
            *end = '\0';
    strcat(buf, "/share/moekit");
}

const char *data_dir(void)
{
    static char dir[PATH_MAX];
    const char *chosen = getenv("MOEKIT_DATA");
    if (chosen && *chosen)
        snprintf(dir, sizeof dir, "%s", chosen);
    else
        beside_program(dir, sizeof dir);
    return dir;
}

static int is_shown(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

char *preset_names(const char *folder, const char *between)
{
    struct dirent **found = NULL;
    char *dir = path_join(data_dir(), folder), *list = xstrdup("");
    int count = scandir(dir, &found, is_shown, alphasort);
    for (int i = 0; i < count; i++) {
        size_t n = strlen(found[i]->d_name) - (ends_in(found[i]->d_name, ".json") ? 5 : 0);
        char *longer = xasprintf("%s%s%.*s", list, i ? between : "", (int)n, found[i]->d_name);
        free(list);
        list = longer;
        free(found[i]);
    }
    free(found);
    free(dir);
    return list;
}

int preset_unknown(const char *what, const char *folder, const char *name)
{
    char *dir = path_join(data_dir(), folder), *list = preset_names(folder, ", ");
    if (*list)
        error(STATUS_USAGE, "unknown %s '%.200s': no such file; the presets are %s", what, name, list);
    else
        error(STATUS_USAGE, "unknown %s '%.200s': no such file, and no presets in '%s'", what, name, dir);
    free(list);
    free(dir);
    return -1;
}

/* SPDX-License-Identifier: MIT */
#include "draw/gnuplot.h"

#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

extern char **environ;

FILE *gnuplot_script(void)
{
    FILE *f = tmpfile();
    if (!f)
        error_errno("cannot make a temporary file");
    return f;
}

void gnuplot_quoted(FILE *f, const char *s)
{
    fputc('\'', f);
    for (; *s; s++)
        fputs(*s == '\'' ? "''" : (char[]){*s, '\0'}, f);
    fputc('\'', f);
}

int gnuplot_run(FILE *script, FILE *out)
{
    char *argv[] = {"gnuplot", "--default-settings", NULL}; /* not the user's own */
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
    if (fflush(script) || fseek(script, 0, SEEK_SET))
        return error_errno("cannot write a script for gnuplot");
    fflush(out);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(script), STDIN_FILENO);
    if (fileno(out) != STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, fileno(out), STDOUT_FILENO);
    int e = posix_spawnp(&child, "gnuplot", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (e == ENOENT)
        return error(STATUS_ENV, "gnuplot is not installed (apt install gnuplot-nox)");
    if (e)
        return error(STATUS_ENV, "cannot run gnuplot: %s", strerror(e));
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR)
            return error_errno("cannot wait for gnuplot");
    if (WIFSIGNALED(status))
        return error(STATUS_ENV, "gnuplot was ended by signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 127)
        return error(STATUS_ENV, "gnuplot is not installed (apt install gnuplot-nox)");
    if (WEXITSTATUS(status) != 0)
        return error(STATUS_ENV, "gnuplot failed with status %d", WEXITSTATUS(status));
    return 0;
}

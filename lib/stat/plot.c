/* SPDX-License-Identifier: MIT */
/* gnuplot reads one script, data included, on its stdin and draws on its stdout, which is the output file: so
 * no name needs quoting, and nothing is left behind. The script waits in an unnamed file rather than in a pipe,
 * so that a gnuplot that stops early cannot end us by SIGPIPE. */
#include "stat/plot.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

extern char **environ;

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

/* In single quotes, for gnuplot. */
static void quoted(FILE *f, const char *s)
{
    fputc('\'', f);
    for (; *s; s++)
        fputs(*s == '\'' ? "''" : (char[]){*s, '\0'}, f);
    fputc('\'', f);
}

/* Each returns how many points it wrote. */
static size_t loss_data(FILE *f, struct steplog *log)
{
    size_t n = 0;
    fputs("$loss << END\n", f);
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (isfinite(r->loss) && ++n)
            fprintf(f, "%lld %.9g\n", (long long)r->step, r->loss);
    }
    fputs("END\n", f);
    return n;
}

static size_t eval_data(FILE *f, struct steplog *log)
{
    size_t n = 0;
    fputs("$eval << END\n", f);
    for (size_t i = 0; i < log->evals; i++) {
        const struct log_event *e = steplog_eval(log, i);
        if (isfinite(e->loss) && ++n)
            fprintf(f, "%.0f %.9g\n", e->step, e->loss);
    }
    fputs("END\n", f);
    return n;
}

static size_t rate_data(FILE *f, struct steplog *log)
{
    size_t n = 0;
    double rate;
    fputs("$rate << END\n", f);
    for (size_t i = 0; i < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        if (step_rate(r, &rate) && ++n)
            fprintf(f, "%lld %.9g\n", (long long)r->step, rate);
    }
    fputs("END\n", f);
    return n;
}

static int write_script(FILE *f, const char *terminal, struct steplog *log, const struct summary *s)
{
    char title[200];
    size_t losses = loss_data(f, log), evals = eval_data(f, log), rates = rate_data(f, log);
    if (!losses && !rates)
        return error(STATUS_USAGE, "the log has neither losses nor rates to plot");
    int n = snprintf(title, sizeof title, "%s%s%.0f steps", log->model, *log->model ? ": " : "", s->steps);
    if (log->world > 0)
        snprintf(title + n, sizeof title - (size_t)n, ", %d rank%s", log->world, log->world == 1 ? "" : "s");
    fprintf(f, "set terminal %s\nset multiplot layout %d,1 title ", terminal, (losses > 0) + (rates > 0));
    quoted(f, title);
    /* The same margins in both panels, so that their steps stand above each other. */
    fputs(" noenhanced\nset lmargin 12\nset rmargin 3\nset grid\nset tics nomirror\nset border 3\nset key top "
          "right\n",
          f);
    fprintf(f, "set xlabel 'step'\nset xrange [%.1f:%.1f]\n", s->first_step - 0.5, s->last_step + 0.5);
    const char *style = log->count > 100 ? "lines" : "linespoints pointtype 7 pointsize 0.4";
    if (losses) {
        fprintf(f, "set ylabel 'loss'\nplot $loss with %s linecolor rgb '#1f77b4' title 'training'", style);
        if (evals)
            fputs(
                ", $eval with linespoints linecolor rgb '#d62728' pointtype 7 pointsize 0.8 title 'evaluation'",
                f);
        fputc('\n', f);
    }
    if (rates) {
        fprintf(f,
                "set ylabel 'tokens/s'\nset yrange [0:*]\nset format y '%s'\nset key bottom right\n"
                "plot $rate with %s linecolor rgb '#2ca02c' title 'each step'",
                s->tokens_per_s >= 1e5 ? "%.2s%c" : "%g", style);
        if (isfinite(s->tokens_per_s))
            fprintf(f,
                    ", %.9g with lines dashtype 2 linecolor rgb '#555555' title 'all tokens over all seconds'",
                    s->tokens_per_s);
        fputc('\n', f);
    }
    fputs("unset multiplot\n", f);
    if (fflush(f) || fseek(f, 0, SEEK_SET))
        return error_errno("cannot write a script for gnuplot");
    return 0;
}

static int run_gnuplot(FILE *script, FILE *out)
{
    char *argv[] = {"gnuplot", "--default-settings", NULL}; /* not the user's own */
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
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

static int draw(const char *path, const char *terminal, FILE *script, struct steplog *log,
                const struct summary *s)
{
    struct output o;
    if (write_script(script, terminal, log, s) < 0 || output_open(&o, path) < 0)
        return -1;
    fflush(o.stream);
    if (run_gnuplot(script, o.stream) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

int plot_write(const char *path, struct steplog *log, const struct summary *s)
{
    const char *svg = "svg size 900,700 background rgb 'white'", *png = "pngcairo size 1200,900";
    bool is_svg = strcmp(path, "-") == 0 || ends_in(path, ".svg");
    if (!is_svg && !ends_in(path, ".png"))
        return error(STATUS_USAGE, "'%s' ends in neither .png nor .svg", path);
    FILE *script = tmpfile();
    if (!script)
        return error_errno("cannot make a temporary file");
    int r = draw(path, is_svg ? svg : png, script, log, s);
    fclose(script);
    return r;
}

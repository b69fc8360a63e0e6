/* SPDX-License-Identifier: MIT */
#include "draw/pictures.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/notice.h"
#include "base/num.h"
#include "draw/html.h"
#include "draw/plot.h"
#include "draw/spans.h"
#include "draw/trace.h"

int pictures_panels(const char *arg, void *to)
{
    struct pictures *w = to;
    char name[16], all[160];
    for (const char *p = arg, *end; p; p = *end ? end + 1 : NULL) {
        end = strchrnul(p, ',');
        snprintf(name, sizeof name, "%.*s", (int)min64(end - p, sizeof name - 1), p);
        int i = word_index(&panel_words, name);
        if (i < 0)
            return error(STATUS_USAGE, "no panel '%s'; there are %s", name,
                         words_text(&panel_words, all, sizeof all));
        w->panels[i] = true;
    }
    return 0;
}

int pictures_steps(const char *arg, void *to)
{
    struct pictures *w = to;
    const char *dash = strchr(arg, '-');
    char from[24] = "";
    if (dash && dash - arg < (int)sizeof from)
        memcpy(from, arg, (size_t)(dash - arg));
    bool ok = parse_int(dash ? from : arg, 0, INT64_MAX, &w->first);
    w->last = w->first;
    ok = ok && (!dash || parse_int(dash + 1, w->first, INT64_MAX, &w->last));
    return ok ? 0 : error(STATUS_USAGE, "'%s': A or A-B is wanted, with A <= B", arg);
}

int pictures_check(const struct pictures *w)
{
    TRY(w->plot ? plot_check(w->plot) : 0);
    TRY(output_check(w->html));
    return output_check(w->trace);
}

int pictures_sort(char **paths, int count)
{
    int logs = 0;
    for (int i = 0; i < count; i++)
        if (!spans_here(paths[i])) {
            char *log = paths[i];
            memmove(&paths[logs + 1], &paths[logs], (size_t)(i - logs) * sizeof *paths);
            paths[logs++] = log;
        }
    return logs;
}

static int write_page(const char *path, const struct page *page)
{
    struct output o;
    TRY(output_open(&o, path));
    if (html_write(o.stream, page) < 0) {
        output_abandon(&o);
        return -1;
    }
    return output_commit(&o);
}

int pictures_write(const struct pictures *w, const struct report *r, const struct plan *plan,
                   const char *plan_path, char **paths, int logs, int count)
{
    struct picture picture = {.log = r ? r->log : NULL,
                              .loads = r ? r->loads : NULL,
                              .s = r ? &r->s : NULL,
                              .timelines = paths + logs,
                              .timeline_count = count - logs,
                              .first = w->first,
                              .last = w->last};
    if (w->plot)
        return plot_write(w->plot, &picture, w->panels);
    if (!r)
        return error(STATUS_USAGE, "--html needs a log: '%s' is a timeline", paths[0]);
    struct page page = {.report = r,
                        .picture = &picture,
                        .plan = plan,
                        .plan_path = plan_path,
                        .logs = (const char *const *)paths,
                        .log_count = logs};
    return write_page(w->html, &page);
}

static void say_trace(const struct trace_counts *c)
{
    notice("%lld operations of %lld rank%s, %lld collectives and messages linked", (long long)c->operations,
           (long long)c->ranks, plural(c->ranks), (long long)c->linked);
    if (c->missing)
        notice("%lld ranks of the run have no timeline here", (long long)c->missing);
    if (c->unlinked)
        notice("%lld parts of communication are not linked: nothing here says with whom they were",
               (long long)c->unlinked);
    if (c->apart_s > 0)
        notice("the hosts' clocks differ: a collective ended on one rank %.3g s before it began on another",
               c->apart_s);
    if (c->skipped)
        notice("%zu lines are no records of a timeline, and were skipped", c->skipped);
}

int pictures_trace(const struct pictures *w, char **paths, int count)
{
    struct trace_counts c;
    struct output o;
    TRY(output_open(&o, w->trace));
    if (trace_write(o.stream, paths, count, w->first, w->last, &c) < 0) {
        output_abandon(&o);
        return -1;
    }
    TRY(output_commit(&o));
    say_trace(&c);
    return 0;
}

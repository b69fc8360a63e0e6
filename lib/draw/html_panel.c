/* SPDX-License-Identifier: MIT */
/* gnuplot's SVG, as a part of a page: without its head, its background and its title, and with names of its
 * own, because several of them on one page would share theirs. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "draw/gnuplot.h"
#include "draw/html.h"

enum { MOST_BYTES = 64 << 20 };

void html_text(FILE *f, const char *text)
{
    size_t n;
    char *good = utf8_repair(text, strlen(text), &n);
    for (const char *p = good; *p; p++) {
        const char *as = *p == '&'   ? "&amp;"
                         : *p == '<' ? "&lt;"
                         : *p == '>' ? "&gt;"
                         : *p == '"' ? "&quot;"
                                     : NULL;
        if (as)
            fputs(as, f);
        else if (*p == '\'')
            fputs("&#39;", f);
        else
            fputc((unsigned char)*p < ' ' && *p != '\n' && *p != '\t' ? ' ' : *p, f);
    }
    free(good);
}

/* All of a file, which was just written. */
static char *whole(FILE *f)
{
    long bytes;
    if (fflush(f) || fseek(f, 0, SEEK_END) || (bytes = ftell(f)) < 0 || fseek(f, 0, SEEK_SET)) {
        error_errno("cannot read what gnuplot drew");
        return NULL;
    }
    if (bytes > MOST_BYTES) {
        error(STATUS_ENV, "gnuplot drew %ld bytes", bytes);
        return NULL;
    }
    char *text = xmalloc((size_t)bytes + 1);
    if (fread(text, 1, (size_t)bytes, f) != (size_t)bytes) {
        free(text);
        error_errno("cannot read what gnuplot drew");
        return NULL;
    }
    text[bytes] = '\0';
    return text;
}

/* Cuts out what is between two texts, both of them too. */
static void cut(char *svg, const char *from, const char *to)
{
    char *a = strstr(svg, from), *b = a ? strstr(a, to) : NULL;
    if (b)
        memmove(a, b + strlen(to), strlen(b + strlen(to)) + 1);
}

static void rename_and_write(FILE *f, const char *p, int number)
{
    static const char *const names[] = {"gpPt", "gpDot", "gnuplot_", "textbox'", "greybox'"};
    while (*p) {
        const char *name = NULL;
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (strncmp(p, names[i], strlen(names[i])) == 0)
                name = names[i];
        if (name)
            fprintf(f, "p%d-", number);
        size_t n = name ? strlen(name) : strncmp(p, "base64,", 7) == 0 ? strcspn(p, "'\"") : 1;
        fwrite(p, 1, n, f);
        p += n;
    }
}

int html_panel(FILE *f, const struct picture *p, enum panel which, int number)
{
    bool wide = which == PANEL_SCHEDULE;
    int height = !wide ? 330 : p->timeline_count > 8 ? 140 + 22 * p->timeline_count : 340;
    FILE *script = gnuplot_script(), *out = script ? tmpfile() : NULL;
    char *svg = NULL;
    int r = out ? 0 : script ? error_errno("cannot make a temporary file") : -1;
    if (r == 0) {
        fprintf(script, "set terminal svg size %d,%d font 'sans-serif,13' dynamic\n", wide ? 1100 : 560,
                height < 4000 ? height : 4000);
        picture_data(script, p);
    }
    if (r == 0)
        r = panel_draw(script, p, which, LOOK_PAGE);
    if (r == 0)
        r = gnuplot_run(script, out);
    if (r == 0 && !(svg = whole(out)))
        r = -1;
    const char *begin = svg ? strstr(svg, "<svg") : NULL;
    if (r == 0 && !begin)
        r = error(STATUS_ENV, "gnuplot drew no SVG");
    if (r == 0) {
        cut(svg, "<title>", "</desc>");
        rename_and_write(f, begin, number);
    }
    free(svg);
    if (out)
        fclose(out);
    if (script)
        fclose(script);
    return r;
}

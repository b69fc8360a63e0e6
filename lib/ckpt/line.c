/* SPDX-License-Identifier: MIT */
#include "ckpt/line.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

void run_id_draw(char id[static RUN_ID])
{
    uint64_t x;
    if (getrandom(&x, sizeof x, 0) != sizeof x) { /* no source of randomness: the clock and the process */
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        x = (uint64_t)now.tv_sec << 34 ^ (uint64_t)now.tv_nsec << 4 ^ (uint64_t)getpid() << 44;
    }
    snprintf(id, RUN_ID, "%016" PRIx64, x);
}

void line_continue(struct line *l, int64_t step, const char *id)
{
    l->from = xrealloc(l->from, (size_t)l->count + 1, sizeof *l->from);
    memmove(l->from + 1, l->from, (size_t)l->count++ * sizeof *l->from);
    memcpy(l->from[0].run, l->run, RUN_ID);
    l->from[0].until = step;
    snprintf(l->run, RUN_ID, "%s", id);
}

bool line_has(const struct line *l, const char *run, int64_t step)
{
    if (strcmp(run, l->run) == 0)
        return true;
    for (int i = 0; i < l->count; i++)
        if (strcmp(run, l->from[i].run) == 0 && step <= l->from[i].until)
            return true;
    return false;
}

void line_write(const struct line *l, json_t *state)
{
    json_t *from = json_array();
    for (int i = 0; i < l->count; i++)
        json_array_append_new(
            from, json_pack("{s:s,s:I}", "run", l->from[i].run, "until", (json_int_t)l->from[i].until));
    json_object_set_new(state, "run", json_string(l->run));
    json_object_set_new(state, "line", from);
}

/* An id, or "" where there is none. */
static int read_id(const struct json_doc *d, const json_t *o, char id[static RUN_ID])
{
    const char *text = "";
    TRY(json_text(d, o, "run", &text));
    if (*text && (strlen(text) != RUN_ID - 1 || strspn(text, "0123456789abcdef") != RUN_ID - 1))
        return json_bad(d, "run", "is '%.40s', not 16 hexadecimal digits", text);
    strcpy(id, text);
    return 0;
}

int line_read(struct line *l, const struct json_doc *state)
{
    *l = (struct line){0};
    json_t *from = json_object_get(state->root, "line"), *one;
    size_t i;
    if (from && !json_is_array(from))
        return json_bad(state, "line", "must be an array");
    int r = read_id(state, state->root, l->run);
    l->from = xcalloc(json_array_size(from), sizeof *l->from);
    json_array_foreach(from, i, one)
    {
        if (r == 0 && !json_is_object(one))
            r = json_bad(state, "line", "must hold objects");
        if (r == 0)
            r = read_id(state, one, l->from[i].run);
        if (r == 0)
            r = json_need_int(state, one, "until", 0, INT64_MAX, &l->from[i].until) < 0 ? -1 : 0;
    }
    l->count = (int)json_array_size(from);
    if (r < 0)
        line_release(l);
    return r;
}

void line_release(struct line *l)
{
    free(l->from);
    *l = (struct line){0};
}

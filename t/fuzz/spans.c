/* SPDX-License-Identifier: MIT */
/* Timelines. Of what is accepted comes a trace that is JSON, in which slices follow each other and arrows lie
 * within slices. */
#include "draw/spans.h"
#include "base/error.h"
#include "base/json.h"
#include "draw/trace.h"
#include "fuzz/fuzz.h"

static int64_t ns(const json_t *event, const char *key)
{
    return (int64_t)(json_real_value(json_object_get(event, key)) * 1000 + 0.5);
}

/* `busy` is until when each thread is. Thread 1 has the steps, which overlap where a timeline's do. */
static void look_at(const json_t *events)
{
    int64_t busy[SPAN_STREAMS + 2] = {0};
    size_t i;
    const json_t *e;
    json_array_foreach(events, i, e)
    {
        int64_t thread = json_integer_value(json_object_get(e, "tid"));
        MUST(thread >= 1 && thread <= SPAN_STREAMS + 1);
        if (json_string_value(json_object_get(e, "ph"))[0] != 'X' || thread == 1)
            continue;
        MUST(ns(e, "dur") > 0);
        if (ns(e, "ts") < INT64_C(1000000000000000)) /* above, a double has no nanoseconds */
            MUST(ns(e, "ts") >= busy[thread]);
        busy[thread] = ns(e, "ts") + ns(e, "dur");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = memory_file(data, size);
    char *paths[] = {(char *)path}, *text = NULL;
    size_t bytes = 0;
    struct trace_counts c;
    FILE *out = open_memstream(&text, &bytes);
    spans_here(path);
    int r = trace_write(out, paths, 1, 0, INT64_MAX, &c);
    fclose(out);
    if (r == 0) {
        json_t *o = json_loadb(text, bytes, 0, NULL);
        MUST(o && c.operations > 0);
        look_at(json_object_get(o, "traceEvents"));
        json_decref(o);
    }
    free(text);
    return 0;
}

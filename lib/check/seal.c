/* SPDX-License-Identifier: MIT */
#include "check/seal.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "cost/predict.h"
#include "plan/text.h"

/* Does the line hold a record of this kind? */
static bool is_record(const char *line, size_t length, const char *kind)
{
    size_t skip = 0, n = strlen(kind);
    while (skip < length && (line[skip] == ' ' || line[skip] == '\t'))
        skip++;
    return length - skip >= n && memcmp(line + skip, kind, n) == 0 &&
           (length - skip == n || strchr(" \t\r", line[skip + n]) != NULL);
}

static void reseal_text(const struct plan *p, const char *text, size_t bytes, bool predict_anew, FILE *f)
{
    for (const char *line = text, *end = text + bytes; line < end;) {
        const char *newline = memchr(line, '\n', end - line);
        size_t length = (newline ? newline : end) - line;
        if (is_record(line, length, "sum"))
            break;
        if (predict_anew && is_record(line, length, "predict")) {
            plan_write_predict(p, f);
        } else {
            fwrite(line, 1, length, f);
            putc('\n', f);
        }
        line += length + (newline != NULL);
    }
}

static int write_sealed(const struct plan *p, const char *path, const char *text, size_t bytes,
                        bool predict_anew)
{
    char *sealed = NULL;
    size_t sealed_bytes = 0;
    struct output o;
    FILE *mem = open_memstream(&sealed, &sealed_bytes);
    if (!mem)
        return error_errno("cannot write '%s'", path);
    reseal_text(p, text, bytes, predict_anew, mem);
    int r = fclose(mem) != 0 ? error_errno("cannot write '%s'", path) : output_open(&o, path);
    if (r == 0) {
        fwrite(sealed, 1, sealed_bytes, o.stream);
        fprintf(o.stream, "sum crc32=%08lx\n", crc32_z(0, (const unsigned char *)sealed, sealed_bytes));
        r = output_commit(&o);
    }
    free(sealed);
    return r;
}

/* Whether predictions are not those of the plan; where what they rest on fails they were not asked for. */
static bool must_predict(const struct findings *f)
{
    for (int i = 0; i < f->count; i++) {
        bool predict = strcmp(f->list[i].rule, "predict-matches") == 0;
        if (predict || f->list[i].verdict == VERDICT_FAIL)
            return predict && f->list[i].verdict != VERDICT_OK;
    }
    return false;
}

int plan_seal(const char *path, struct findings *findings)
{
    struct plan p;
    size_t bytes;
    *findings = (struct findings){0};
    char *text = file_read(path, MAX_PLAN_BYTES, &bytes);
    if (!text)
        return -1;
    int r = plan_parse(&p, text, bytes, strcmp(path, "-") == 0 ? "stdin" : path, false);
    if (r == 0) {
        plan_check(&p, findings);
        bool anew = must_predict(findings);
        if (anew && (r = plan_predict(&p)) == 0) {
            findings_release(findings);
            plan_check(&p, findings);
        }
        if (r == 0)
            r = findings->fails ? 1 : write_sealed(&p, path, text, bytes, anew);
        plan_release(&p);
    }
    free(text);
    return r;
}

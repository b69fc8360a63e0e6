/* SPDX-License-Identifier: MIT */
/* Plans. What parses is checked by every rule; a plan that no rule fails is the same after being written and
 * read. */
#include <stdlib.h>
#include <string.h>

#include "check/check.h"
#include "check/runnable.h"
#include "fuzz/fuzz.h"
#include "plan/text.h"

static char *text_of(const struct plan *p, size_t *bytes)
{
    char *text;
    FILE *f = open_memstream(&text, bytes);
    MUST(plan_write(p, f) == 0 && fclose(f) == 0);
    return text;
}

static void round_trip(const struct plan *p)
{
    struct plan again;
    size_t bytes, bytes_again;
    char *text = text_of(p, &bytes);
    MUST(plan_parse(&again, text, bytes, "again", true) == 0);
    char *text_again = text_of(&again, &bytes_again);
    MUST(bytes == bytes_again && memcmp(text, text_again, bytes) == 0);
    free(text);
    free(text_again);
    plan_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan p;
    struct findings found;
    if (plan_parse(&p, (const char *)data, size, "plan", false) < 0)
        return 0;
    plan_check(&p, &found);
    if (found.fails == 0)
        round_trip(&p);
    findings_release(&found);
    plan_runnable(&p);
    plan_release(&p);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* Lists of claims. Each that is accepted reads back from its own text as the same, and is judged. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "choose/make.h"
#include "claim/judge.h"
#include "fuzz/fuzz.h"

static const struct plan *plan(void)
{
    static struct plan p;
    const struct request r = {
        .model = "moe-tiny", .cluster = "h100", .world = 8, .axes = {.tp = 2, .ep = 2, .pp = 2}, .zero = -1};
    if (!p.world)
        MUST(plan_make(&p, &r) == 0);
    return &p;
}

static void same_again(const struct claim *x)
{
    struct claims again;
    MUST(claims_parse(&again, x->text, strlen(x->text), "again") == 0 && again.count == 1);
    const struct claim *y = &again.list[0];
    MUST(x->kind == y->kind && x->figure == y->figure && x->fact == y->fact && x->field == y->field);
    MUST(memcmp(&x->bound, &y->bound, sizeof x->bound) == 0 && x->range_count == y->range_count);
    claims_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct claims c;
    struct judged judged[8];
    if (claims_parse(&c, (const char *)data, size, "fuzz") < 0) {
        MUST(error_status() == STATUS_USAGE && strncmp(error_text(), "fuzz:", 5) == 0);
        return 0;
    }
    for (int i = 0; i < c.count; i++)
        same_again(&c.list[i]);
    if (c.count <= 8) {
        claims_judge(&c, plan(), NULL, judged);
        for (int i = 0; i < c.count; i++) {
            MUST(judged[i].judgement <= CLAIM_UNDECIDED && judged[i].text[0]);
            MUST(judged[i].judgement == CLAIM_UNDECIDED || judged[i].found.error == 0 ||
                 !isnan(judged[i].found.value));
        }
    }
    claims_release(&c);
    return 0;
}

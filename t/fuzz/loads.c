/* SPDX-License-Identifier: MIT */
/* Experts' loads. What is read can be balanced: every expert gets a slot. */
#include <stdlib.h>
#include <string.h>

#include "choose/balancer.h"
#include "fuzz/fuzz.h"
#include "model/load_table.h"

static void balance_row(const double *load, int64_t experts)
{
    struct fleet f = {.slots = experts + 3, .groups = 1, .nodes = 1, .devices = 1};
    int32_t *map = calloc((size_t)f.slots, sizeof *map);
    char *there = calloc((size_t)experts, 1);
    MUST(map && there && balancer_takes(&f, experts) == 0);
    balance_experts(&f, experts, load, map);
    for (int64_t i = 0; i < f.slots; i++) {
        MUST(map[i] >= 0 && map[i] < experts);
        there[map[i]] = 1;
    }
    MUST(!memchr(there, 0, (size_t)experts));
    free(there);
    free(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct load_table t;
    char *text = malloc(size + 1);
    MUST(text);
    memcpy(text, data, size);
    text[size] = '\0';
    if (load_table_parse(&t, text, size, "loads") == 0) {
        MUST(t.layers > 0 && t.experts > 0);
        for (int64_t i = 0; i < t.layers * t.experts; i++)
            MUST(t.load[i] >= 0 && t.load[i] <= 1e30);
        if (t.experts <= 512 && load_table_routed(&t, "loads") == 0)
            balance_row(t.load, t.experts);
        load_table_release(&t);
    }
    free(text);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* Plans for unit tests. */
#ifndef T_PLANS_H
#define T_PLANS_H

#include <unistd.h>

#include "base/memory.h"
#include "choose/make.h"
#include "lib/unit.h"
#include "plan/text.h"

static const struct request tiny = {.model = "moe-tiny", .zero = -1};

/* What was asked for, or the test fails. */
static inline struct plan made(struct request r)
{
    struct plan p;
    if (plan_make(&p, &r) < 0)
        fail_msg("%s", error_text());
    return p;
}

/* The request is refused as bad input, in these words among others. */
static inline void refused(struct request r, const char *words)
{
    struct plan p;
    assert_int_equal(plan_make(&p, &r), -1);
    assert_int_equal(error_status(), STATUS_USAGE);
    if (!strstr(error_text(), words))
        fail_msg("'%s' is not in: %s", words, error_text());
}

/* Caller frees. */
static inline char *text_of(const struct plan *p, size_t *bytes)
{
    static char *text; /* static: gcc takes the stream's use of its address for a dangling pointer */
    FILE *f = open_memstream(&text, bytes);
    assert_int_equal(plan_write(p, f), 0);
    fclose(f);
    return text;
}

static inline struct request small_request(void)
{
    return (struct request){
        .model = "moe-tiny", .axes = {.tp = 2, .ep = 2, .pp = 2}, .batch = {.global = 2}, .zero = -1};
}

/* A config in a file of its own: tied embeddings, two key/value heads. */
static inline char *tied_config(void)
{
    static char path[] = "/tmp/moekit-plan-XXXXXX";
    strcpy(strrchr(path, '-'), "-XXXXXX");
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fputs("{\"model_type\": \"mixtral\", \"num_hidden_layers\": 5, \"hidden_size\": 64, "
          "\"num_attention_heads\": 8,\n"
          " \"num_key_value_heads\": 2, \"vocab_size\": 96, \"num_experts_per_tok\": 2, \"num_local_experts\": "
          "4,\n"
          " \"intermediate_size\": 96, \"sliding_window\": null, \"tie_word_embeddings\": true}",
          f); /* and no newline */
    fclose(f);
    return path;
}

/* The text with the first `from`, which must be there, turned into `to`; caller frees. */
static inline char *edit(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    if (!at)
        fail_msg("'%s' is not in the plan", from);
    return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

#endif

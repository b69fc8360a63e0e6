/* SPDX-License-Identifier: MIT */
#include "train/recipe.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/notice.h"
#include "base/num.h"
#include "base/options.h"

const struct recipe recipe_defaults = {
    .lr = 3e-4,
    .min_lr = 0,
    .beta1 = 0.9,
    .beta2 = 0.95,
    .eps = 1e-8,
    .weight_decay = 0.1,
    .clip = 1,
    .router_loss = {[0 ... ROUTER_LOSSES - 1] = NAN},
    .bias_rate = NAN,
    .seed = 1,
    .lr_schedule = "constant",
    .shuffle = "yes",
};

/* The recipe's numbers: option name, place. */
static const struct number {
    const char *name;
    size_t at;
    bool whole;
} numbers[] = {
#define NUM(name, member)          {name, offsetof(struct recipe, member), false},
#define WHOLE(name, member)        {name, offsetof(struct recipe, member), true},
#define LOSS(id, key, option, ...) NUM(option, router_loss[id])
    /* clang-format off */
    NUM("lr", lr)
    NUM("min-lr", min_lr)
    NUM("beta1", beta1)
    NUM("beta2", beta2)
    NUM("eps", eps)
    NUM("weight-decay", weight_decay)
    NUM("clip", clip)
    ROUTER_LOSS_ROWS(LOSS)
    NUM("bias-rate", bias_rate)
    WHOLE("warmup", warmup)
    WHOLE("lr-steps", lr_steps)
    WHOLE("decay-steps", decay_steps)
    WHOLE("seed", seed)
    /* clang-format on */
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* And its words: option name, place, what they may be. */
static const struct word {
    const char *name;
    size_t at;
    const char *known[4];
    const char *other; /* an option that gives it too */
} words[] = {
    {"lr-schedule", offsetof(struct recipe, lr_schedule), {"constant", "cosine", "wsd"}},
    {"shuffle", offsetof(struct recipe, shuffle), {"yes", "no"}, "no-shuffle"},
};
enum { WORDS_OF_RECIPE = sizeof words / sizeof *words };

static const char **word_of(const struct recipe *r, const struct word *w)
{
    return (const char **)((char *)(uintptr_t)r + w->at);
}

double recipe_lr(const struct recipe *r, int64_t step)
{
    int64_t steps = r->lr_steps;
    if (step <= r->warmup)
        return r->lr * (double)step / (double)r->warmup;
    if (strcmp(r->lr_schedule, "cosine") == 0) {
        double span = (double)(steps - r->warmup), done = span > 0 ? (double)(step - r->warmup) / span : 1;
        return r->min_lr + 0.5 * (r->lr - r->min_lr) * (1 + cos(M_PI * fmin(1, done)));
    }
    if (strcmp(r->lr_schedule, "wsd") == 0) {
        int64_t tail = r->decay_steps ? r->decay_steps : max64(1, steps / 10), begin = steps - tail;
        double done = step > begin ? (double)(step - begin) / (double)tail : 0;
        return r->lr + (r->min_lr - r->lr) * fmin(1, done);
    }
    return r->lr;
}

char *recipe_json(const struct recipe *r)
{
    json_t *o = json_object();
    for (int i = 0; i < NUMBERS; i++) {
        const struct number *f = &numbers[i];
        const char *p = (const char *)r + f->at;
        double num = f->whole ? 0 : *(const double *)p;
        json_t *v = f->whole ? json_integer(*(const int64_t *)p) : isnan(num) ? json_null() : json_real(num);
        json_object_set_new(o, f->name, v);
    }
    for (int i = 0; i < WORDS_OF_RECIPE; i++)
        json_object_set_new(o, words[i].name, json_string(*word_of(r, &words[i])));
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17));
    json_decref(o);
    return text;
}

/* None may be negative. Null, of a coefficient, is the config's. */
static int restore_number(struct recipe *r, const struct json_doc *d, const json_t *o, const struct number *f)
{
    char *p = (char *)r + f->at, was[32], is[32];
    int64_t whole = 0;
    double stored = 0, now = f->whole ? (double)*(int64_t *)p : *(double *)p;
    int there =
        f->whole ? json_int(d, o, f->name, 0, INT64_MAX, &whole) : json_num(d, o, f->name, 0, 1e300, &stored);
    TRY(there);
    if (!there) {
        bool meant =
            json_object_get(o, f->name) || strcmp(f->name, "lr-steps") == 0; /* null; told by recipe_settle() */
        if (!meant && !option_given(f->name) && isfinite(now))
            notice("the checkpoint does not say --%s: %s is taken", f->name, exact_num(now, is));
        return 0;
    }
    if (f->whole)
        stored = (double)whole;
    if (option_given(f->name)) {
        if (stored != now)
            notice("--%s %s replaces the checkpoint's %s", f->name, exact_num(now, is), exact_num(stored, was));
    } else if (f->whole) {
        *(int64_t *)p = whole;
    } else {
        *(double *)p = stored;
    }
    return 0;
}

static bool is_known(const char *key)
{
    for (int i = 0; i < NUMBERS; i++)
        if (strcmp(key, numbers[i].name) == 0)
            return true;
    for (int i = 0; i < WORDS_OF_RECIPE; i++)
        if (strcmp(key, words[i].name) == 0)
            return true;
    return false;
}

static bool word_given(const struct word *w)
{
    return option_given(w->name) || (w->other && option_given(w->other));
}

/* -1: `stored` is none that this program knows. */
static int restore_word(struct recipe *r, const struct json_doc *state, const struct word *w,
                        const char *stored)
{
    const char **now = word_of(r, w);
    int i = 0;
    while (w->known[i] && strcmp(stored, w->known[i]) != 0)
        i++;
    if (!w->known[i])
        return json_bad(state, w->name,
                        "is '%.40s', which moekit " VERSION " does not know: a newer moekit is needed", stored);
    if (!word_given(w))
        *now = w->known[i];
    else if (strcmp(stored, *now) != 0)
        notice("--%s %s replaces the checkpoint's %s", w->name, *now, stored);
    return 0;
}

int recipe_restore(struct recipe *r, const struct json_doc *state)
{
    json_t *o = json_object_get(state->root, "recipe"), *v;
    const char *key;
    json_object_foreach(o, key, v)
    {
        if (!is_known(key))
            return json_bad(state, key,
                            "is not of a recipe that moekit " VERSION " knows: a newer moekit is needed");
    }
    for (int i = 0; i < NUMBERS; i++)
        TRY(restore_number(r, state, o, &numbers[i]));
    if (!(r->beta1 >= 0 && r->beta1 < 1) || !(r->beta2 >= 0 && r->beta2 < 1))
        return json_bad(state, r->beta1 >= 0 && r->beta1 < 1 ? "beta2" : "beta1",
                        "is not from 0 to less than 1");
    for (int i = 0; i < WORDS_OF_RECIPE; i++) {
        const char *stored = json_string_value(json_object_get(o, words[i].name));
        if (stored)
            TRY(restore_word(r, state, &words[i], stored));
        else if (!word_given(&words[i]))
            notice("the checkpoint does not say --%s: %s is taken", words[i].name, *word_of(r, &words[i]));
    }
    return 0;
}

/* Given, and of another schedule. */
static void say_idle(const struct recipe *r)
{
    static const char *const falls[] = {"min-lr", "lr-steps"};
    bool flat = strcmp(r->lr_schedule, "constant") == 0, wsd = strcmp(r->lr_schedule, "wsd") == 0;
    for (size_t i = 0; i < sizeof falls / sizeof *falls && flat; i++)
        if (option_given(falls[i]))
            notice("--%s has no effect: the learning rate is constant (--lr-schedule)", falls[i]);
    if (option_given("decay-steps") && !wsd)
        notice("--decay-steps has no effect: --lr-schedule is %s, not wsd", r->lr_schedule);
}

void recipe_settle(struct recipe *r, int64_t steps, bool resumed)
{
    bool flat = strcmp(r->lr_schedule, "constant") == 0, none = r->lr_steps == 0;
    if (none)
        r->lr_steps = steps;
    say_idle(r);
    if (flat || !resumed)
        return;
    if (none)
        notice("the checkpoint does not say --lr-steps, over how many steps the learning rate falls: %lld, "
               "those of "
               "--steps, is taken",
               (long long)steps);
    else if (steps > r->lr_steps)
        notice("steps beyond %lld run at the learning rate that the %s schedule ends with, %g; --lr-steps %lld "
               "stretches "
               "the schedule",
               (long long)r->lr_steps, r->lr_schedule, r->min_lr, (long long)steps);
}

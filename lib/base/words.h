/* SPDX-License-Identifier: MIT */
/* The words for 0, 1, 2 … as people write them: the names of an enum's values, or of the rows of a table. And
 * what a word ends in. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* An array of strings, or of structs whose first member is the string; a NULL string ends it. */
struct words {
    const void *first;
    size_t stride;
};
/* An initialiser: static const char *const names[] = {"off", "on", NULL}; struct words w = WORDS(names); */
#define WORDS(array)                                                                                           \
    {                                                                                                          \
        (array), sizeof *(array)                                                                               \
    }

/* NULL when there are not so many. */
const char *word_at(const struct words *w, int i);
/* The index of this word, or -1. */
int word_index(const struct words *w, const char *text);
/* "f32, bf16 or fp8": all of them into buf, which it returns. */
char *words_text(const struct words *w, char *buf, size_t room);
/* How many letters are wrong, missing, too many or swapped with their neighbour in `text`, if it may be `word`
 * mistyped: one at most, or two of a word of more than five; else -1. */
int word_distance(const char *text, const char *word);
/* The words that `text` is nearest to, each after `prefix`, as "a or b" into buf; whether there are any. */
bool words_near(const struct words *w, const char *text, const char *prefix, char *buf, size_t room);

/* Whether `text` is something with this behind it: the suffix of a name, say. */
bool ends_in(const char *text, const char *end);

#endif

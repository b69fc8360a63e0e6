/* SPDX-License-Identifier: MIT */
/* Some experts of a model: --experts, and which of them a file holds. */
#ifndef PACK_EXPERTS_H
#define PACK_EXPERTS_H

#include <stdbool.h>
#include <stdint.h>

#include "tensors/safetensors.h"

/* Which experts of which layers: "0-3,7", or "2:5" for expert 5 of layer 2 alone; ranges on either side. */
struct expert_choice;
/* NULL: status 2; `option` is what the message calls it. */
struct expert_choice *experts_parse(const char *option, const char *text);
void experts_free(struct expert_choice *c); /* NULL is fine */
bool experts_has(const struct expert_choice *c, int64_t layer, int64_t expert);
/* Whether each item names layers (where it names any) and experts below these. */
bool experts_within(const struct expert_choice *c, int64_t layers, int64_t experts);
/* Whether it has an expert of the one list in a layer of the other, both as ranges_text() writes them. */
bool experts_overlap(const struct expert_choice *c, const char *experts, const char *layers);

/* The names of a model's tensors. */
struct expert_names;
/* Of the model in a directory; NULL with error(). */
struct expert_names *expert_names_load(const char *dir);
void expert_names_free(struct expert_names *n); /* NULL is fine */
/* If all tensors of the file, weights or states of the optimizer, are experts', which and of which layers;
 * caller frees. Else both NULL. */
void expert_names_of_file(const struct expert_names *n, const struct st_file *f, char **experts, char **layers);

#endif

/* SPDX-License-Identifier: MIT */
/* The records of a plan that are a fixed list of `key=value`: one table for each. The writer, the reader, the
 * JSON and the checks walk it; so a field is added by its member in plan.h, one row in fields.c and a line in
 * moe-plan(5). (Groups, stages, experts and schedules are tables of another form: text_tables.c.) */
#ifndef PLAN_FIELDS_H
#define PLAN_FIELDS_H

#include "base/record.h"
#include "base/words.h"
#include "plan/plan.h"

enum field_type {
    FIELD_INT,       /* int64_t or int, in [min,max], or below what `below` names */
    FIELD_NUM,       /* double in [min,max] */
    FIELD_KNOWN,     /* the same; 0 is unknown: `unknown` in the text, null in JSON */
    FIELD_PREDICTED, /* the same; NaN is not computed: null */
    FIELD_WORD,      /* int, enum or bool: an index in `words` */
    FIELD_FLAG,      /* bool: off or on; in JSON false or true */
    FIELD_TEXT,      /* char[]; %XX in the text, `-` when empty */
    FIELD_COUNTED,   /* int64_t that `count` makes of a struct model; not stored */
};

struct field {
    const char *key;
    enum field_type type;
    size_t at, bytes; /* the member, from the start of the record's struct */
    double min, max;
    bool later;   /* came with a later moekit; where it is left out it is min, or "" */
    bool spared;  /* is left out where it is min, so that an earlier moekit reads the plan */
    size_t below; /* FIELD_INT: offset in struct plan of an int64_t that the value stays below; 0: see max */
    const char *unknown;
    const struct words *words;
    int64_t (*count)(const struct model *m);
};

enum {
    MAX_FIELDS = 24,   /* of a record */
    FIELD_VALUE = 128, /* bytes of a value's text */
};

struct record_fields {
    const char *kind;
    const struct field *fields; /* a NULL key ends them */
};
/* Of a struct plan. */
extern const struct record_fields axes_fields, batch_fields, routing_fields, training_fields, machine_fields,
    predict_fields;
/* Of a struct model: for people and scripts; they follow from the config, with which the reader compares them.
 * */
extern const struct record_fields model_fields;
/* Of a struct coords. */
extern const struct record_fields rank_fields;

/* What the words of a FIELD_WORD or FIELD_FLAG may be; options take theirs from here. */
extern const struct words precision_words, recompute_words, dispatcher_words, device_words, scope_words,
    drop_words, type_words, flag_words;

/* " key=value" for each field. */
void fields_write(const struct record_fields *r, const void *base, FILE *f);
/* Takes the current record's words into base. `p` is asked for what `below` names. -1 with error(). */
int fields_read(const struct record_fields *r, struct records *in, void *base, const struct plan *p);

/* The value as the text has it (a text without %XX), into buf, which it returns. */
char *field_text(const struct field *f, const void *base, char buf[static FIELD_VALUE]);
/* Integers of FIELD_INT, FIELD_WORD, FIELD_FLAG, FIELD_COUNTED; numbers of the others but FIELD_TEXT. */
int64_t field_int(const struct field *f, const void *base);
double field_num(const struct field *f, const void *base);
/* Sets a FIELD_WORD or FIELD_FLAG from its word: false when there is no such word. */
bool field_set_word(const struct field *f, void *base, const char *word);
const struct field *field_find(const struct record_fields *r, const char *key); /* NULL when there is none */

#endif

/* SPDX-License-Identifier: MIT */
#include "claim/report.h"

#include <math.h>

#include "base/json.h"
#include "base/num.h"
#include "cost/cluster.h"

enum { SUBSETS_SHOWN = 5 };

typedef long long ll;

static const char *text_of(const struct claims_report *r, int bit)
{
    return r->claims->list[r->agreement->bound[bit]].text;
}

/* Whether two claims that can hold, each by itself, cannot both at the plan's own world. */
static bool contradict(const struct agreement *a, int i, int k)
{
    uint64_t both = (uint64_t)1 << i | (uint64_t)1 << k;
    return !isnan(a->least_s) && (a->apart_here[i] >> k & 1) && (a->anywhere & both) == both &&
           (a->speed & both) == both;
}

int claims_wrong(const struct claims_report *r)
{
    const struct agreement *a = r->agreement;
    int wrong = 0;
    for (int i = 0; i < r->claims->count; i++)
        wrong += r->judged[i].judgement == CLAIM_REFUTED;
    for (int i = 0; i < a->count; i++)
        for (int k = i + 1; k < a->count; k++)
            wrong += contradict(a, i, k);
    return wrong;
}

/* ---- for people ---- */

static void put_verdicts(const struct claims_report *r, FILE *f)
{
    static const char *const word[] = {"holds    ", "REFUTED  ", "undecided"};
    int count[3] = {0};
    for (int i = 0; i < r->claims->count; i++) {
        fprintf(f, "%s %s: %s\n", word[r->judged[i].judgement], r->claims->list[i].text, r->judged[i].text);
        count[r->judged[i].judgement]++;
    }
    fprintf(f, "%d claim%s: %d hold%s, %d refuted, %d undecided\n", r->claims->count, plural(r->claims->count),
            count[CLAIM_HOLDS], count[CLAIM_HOLDS] == 1 ? "s" : "", count[CLAIM_REFUTED],
            count[CLAIM_UNDECIDED]);
}

static void put_seconds(double low, double high, FILE *f)
{
    if (isinf(high))
        fprintf(f, "%.4g s and more", low);
    else
        fprintf(f, "%.4g to %.4g s", low, high);
}

static void put_speeds(const struct claims_report *r, FILE *f)
{
    const struct agreement *a = r->agreement;
    const struct plan *p = r->plan;
    if (!a->speed || isnan(a->least_s))
        return;
    fprintf(f, "\nWhat they say of a step, at seq %lld, top-%lld, %s (at the peak it takes %.4g s):\n",
            (ll)p->batch.seq, (ll)p->model.top_k, precision_name[p->training.precision], a->least_s);
    for (int i = 0; i < a->count; i++) {
        if (!(a->speed >> i & 1))
            continue;
        fprintf(f, "  %-28s ", text_of(r, i));
        if (a->low[i] < a->high[i])
            put_seconds(a->low[i], a->high[i], f);
        else
            fprintf(f, "no time: %.4g s would be above the peak", a->high[i]);
        fputc('\n', f);
    }
}

static void put_range(const char *what, struct range_of x, FILE *f)
{
    if (x.low == x.high)
        fprintf(f, "%s%lld", what, (ll)x.low);
    else
        fprintf(f, "%s%lld to %lld", what, (ll)x.low, (ll)x.high);
}

/* In as few words as it takes: by the plan's own top-k and length where that is enough. */
static void put_place(const struct claims_report *r, const struct places *x, FILE *f)
{
    const struct plan *p = r->plan;
    if (!x->precisions) {
        fputs("at no sequence length, top-k or precision", f);
        return;
    }
    bool by_seq = x->seq.low <= x->seq.high, by_k = x->top_k.low <= x->top_k.high;
    if (by_seq)
        put_range("at seq ", x->seq, f);
    if (by_seq && p->model.max_positions > 0 && x->seq.low > p->model.max_positions)
        fprintf(f, ", where the model has %lld positions", (ll)p->model.max_positions);
    if (by_k)
        put_range(by_seq ? ", or with top-k " : "with top-k ", x->top_k, f);
    if (by_seq || by_k)
        return;
    put_range("only at seq ", x->all_seq, f);
    put_range(" with top-k ", x->all_top_k, f);
    for (int i = 0, n = 0; precision_name[i]; i++)
        if ((x->precisions >> i & 1) && (n++ || x->precisions != 1u << p->training.precision))
            fprintf(f, "%s%s", n > 1 ? " or " : " in ", precision_name[i]);
    fprintf(f, ", as at seq %lld with top-%lld", (ll)x->first_seq, (ll)x->first_top_k);
}

static void put_contradictions(const struct claims_report *r, FILE *f)
{
    const struct agreement *a = r->agreement;
    int count = 0;
    for (int i = 0; i < a->count; i++)
        for (int k = i + 1; k < a->count; k++) {
            if (!contradict(a, i, k))
                continue;
            if (!count++)
                fputs("\nContradictions there, and where both could hold:\n", f);
            fprintf(f, "  '%s' and '%s': ", text_of(r, i), text_of(r, k));
            put_seconds(a->low[i], a->high[i], f);
            fputs(" a step against ", f);
            put_seconds(a->low[k], a->high[k], f);
            fputs("; both ", f);
            put_place(r, &a->pairs[i * a->count + k], f);
            fputc('\n', f);
        }
}

static void put_names(const struct claims_report *r, uint64_t claims, FILE *f)
{
    const char *comma = "";
    for (int i = 0; i < r->agreement->count; i++)
        if (claims >> i & 1) {
            fprintf(f, "%s%s", comma, text_of(r, i));
            comma = "; ";
        }
    fputc('\n', f);
}

static void put_subsets(const struct claims_report *r, const struct subset *list, int count, bool where,
                        FILE *f)
{
    for (int i = 0; i < count && i < SUBSETS_SHOWN; i++) {
        fprintf(f, "  %d. %d of them: ", i + 1, list[i].count);
        put_names(r, list[i].claims, f);
        if (!where)
            continue;
        fputs("     ", f);
        put_place(r, &list[i].at, f);
        fputc('\n', f);
    }
    if (count > SUBSETS_SHOWN)
        fprintf(f, "  and %d that are no larger\n", count - SUBSETS_SHOWN);
}

static void put_agreement(const struct claims_report *r, FILE *f)
{
    const struct agreement *a = r->agreement;
    const struct machine *m = &r->plan->machine;
    if (a->here_count)
        fprintf(f, "\nLargest sets that agree there, of %d on speed, memory and capacity:\n", a->count);
    put_subsets(r, a->here, a->here_count, false, f);
    if (a->subset_count) {
        fputs("\nLargest sets that agree at some sequence length, top-k and precision (", f);
        for (int i = 0, n = 0; precision_name[i]; i++)
            if (machine_peak(m, (enum precision)i) > 0)
                fprintf(f, "%s%s", n++ ? ", " : "", precision_name[i]);
        fputs(", whose peaks are known):\n", f);
    }
    put_subsets(r, a->subsets, a->subset_count, true, f);
    for (int i = 0, n = 0; i < a->count; i++)
        if (!(a->anywhere >> i & 1))
            fprintf(f, "%s%s%s", n++ ? "; " : "  at no such place: ", text_of(r, i),
                    i + 1 == a->count ? "\n" : "");
}

/* "128 to 1024, 4096" of the lengths whose bits are set. */
static void put_lengths(const struct lengths *l, unsigned bits, FILE *f)
{
    const char *comma = "";
    for (int i = 0, end; i < l->count; i = end + 1) {
        for (end = i; end < l->count && (bits >> end & 1); end++)
            ;
        if (end > i) {
            put_range(comma, (struct range_of){l->seq[i], l->seq[end - 1]}, f);
            comma = ", ";
        }
    }
}

static void put_by_length(const struct claims_report *r, FILE *f)
{
    const struct lengths *l = r->lengths;
    unsigned all = (1u << l->count) - 1;
    int shown = 0, never = 0;
    if (!l->count)
        return;
    for (int i = 0; i < r->claims->count; i++) {
        if (l->holds[i] == 0 || (l->holds[i] == all && r->judged[i].judgement == CLAIM_HOLDS))
            continue;
        if (!shown++)
            fprintf(
                f, "\nBy the formulas at other lengths, from seq %lld doubled up to %lld, all else the same:\n",
                (ll)l->seq[0], (ll)l->seq[l->count - 1]);
        fprintf(f, "  %s: holds at ", r->claims->list[i].text);
        put_lengths(l, l->holds[i], f);
        fputc('\n', f);
    }
    for (int i = 0; i < r->claims->count; i++)
        if (l->refuted[i] == all)
            fprintf(f, "%s%s", never++ ? "; " : "  refuted at all of them: ", r->claims->list[i].text);
    fputs(never ? "\n" : "", f);
}

void claims_print(const struct claims_report *r, FILE *f)
{
    put_verdicts(r, f);
    put_speeds(r, f);
    put_contradictions(r, f);
    put_agreement(r, f);
    put_by_length(r, f);
}

void claims_tap(const struct claims_report *r, FILE *f)
{
    fprintf(f, "1..%d\n", r->claims->count);
    for (int i = 0; i < r->claims->count; i++)
        fprintf(f, "%s %d - %s: %s%s\n", r->judged[i].judgement == CLAIM_REFUTED ? "not ok" : "ok", i + 1,
                r->claims->list[i].text, r->judged[i].text,
                r->judged[i].judgement == CLAIM_UNDECIDED ? " # SKIP undecided" : "");
}

/* ---- for scripts ---- */

static json_t *number_json(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *range_json(struct range_of x)
{
    return x.low > x.high ? json_null() : json_pack("[I,I]", (json_int_t)x.low, (json_int_t)x.high);
}

static json_t *place_json(const struct places *x)
{
    if (!x->precisions)
        return json_null();
    json_t *precisions = json_array();
    for (int i = 0; precision_name[i]; i++)
        if (x->precisions >> i & 1)
            json_array_append_new(precisions, json_string(precision_name[i]));
    return json_pack("{s:o,s:o,s:o,s:o,s:o}", "seq", range_json(x->seq), "top_k", range_json(x->top_k),
                     "any_seq", range_json(x->all_seq), "any_top_k", range_json(x->all_top_k), "precisions",
                     precisions);
}

static json_t *subset_json(const struct claims_report *r, const struct subset *s)
{
    json_t *claims = json_array();
    for (int i = 0; i < r->agreement->count; i++)
        if (s->claims >> i & 1)
            json_array_append_new(claims, json_bytes(text_of(r, i)));
    return json_pack("{s:o,s:o}", "claims", claims, "at", place_json(&s->at));
}

static json_t *lengths_json(const struct lengths *l, unsigned bits)
{
    json_t *list = json_array();
    for (int i = 0; i < l->count; i++)
        if (bits >> i & 1)
            json_array_append_new(list, json_integer(l->seq[i]));
    return list;
}

static json_t *verdicts_json(const struct claims_report *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->claims->count; i++)
        json_array_append_new(
            list, json_pack("{s:o,s:i,s:s,s:o,s:o,s:o}", "claim", json_bytes(r->claims->list[i].text), "line",
                            r->claims->list[i].line, "verdict", judgement_name[r->judged[i].judgement], "value",
                            number_json(r->judged[i].found.value), "text", json_bytes(r->judged[i].text),
                            "holds_at_seq", lengths_json(r->lengths, r->lengths->holds[i])));
    return list;
}

static json_t *contradictions_json(const struct claims_report *r)
{
    const struct agreement *a = r->agreement;
    json_t *list = json_array();
    for (int i = 0; i < a->count; i++)
        for (int k = i + 1; k < a->count; k++)
            if (contradict(a, i, k))
                json_array_append_new(list, json_pack("{s:[o,o],s:[[o,o],[o,o]],s:o}", "claims",
                                                      json_bytes(text_of(r, i)), json_bytes(text_of(r, k)),
                                                      "step_s", number_json(a->low[i]), number_json(a->high[i]),
                                                      number_json(a->low[k]), number_json(a->high[k]),
                                                      "both_at", place_json(&a->pairs[i * a->count + k])));
    return list;
}

static json_t *subsets_json(const struct claims_report *r, const struct subset *s, int count)
{
    json_t *list = json_array();
    for (int i = 0; i < count; i++)
        json_array_append_new(list, subset_json(r, &s[i]));
    return list;
}

void claims_json(const struct claims_report *r, FILE *f)
{
    const struct agreement *a = r->agreement;
    json_t *all = json_pack("{s:o,s:o,s:o,s:o}", "claims", verdicts_json(r), "contradictions",
                            contradictions_json(r), "agree_here", subsets_json(r, a->here, a->here_count),
                            "agree", subsets_json(r, a->subsets, a->subset_count));
    json_dumpf(all, f, JSON_INDENT(1));
    fputc('\n', f);
    json_decref(all);
}

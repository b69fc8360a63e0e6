/* SPDX-License-Identifier: MIT */
/* Columns, a query each, LANES of them at a time: what is kept of each stays in registers while keys pass. */
#include "attention.h"
#include "piece.h"

/* The keys that some of LANES queries from c on see. */
LOOP int64_t keys_of_lanes(struct sight of, int64_t c)
{
    return min64(of.keys, of.square + c + LANES);
}

HOT void score_hide(const struct head_form *f, float *s, struct sight of, float value)
{
    for (int64_t i = of.square; i < of.keys; i++) {
        int64_t unseen = i - of.square, c = unseen / LANES * LANES;
        for (int l = 0; l < LANES; l++)
            s[i * STRIP + c + l] = c + l < unseen ? value : s[i * STRIP + c + l];
    }
    for (int c = 0; f->pairs && of.keys % 2 == 1 && c < STRIP; c++)
        s[of.keys * STRIP + c] = value;
}

HOT void score_maxima(float *max, const float *s, struct sight of)
{
    for (int64_t c = 0; c < STRIP; c += LANES) {
        float lane[LANES];
        for (int l = 0; l < LANES; l++)
            lane[l] = max[c + l];
        for (int64_t i = 0; i < keys_of_lanes(of, c); i++)
            for (int l = 0; l < LANES; l++)
                lane[l] = s[i * STRIP + c + l] > lane[l] ? s[i * STRIP + c + l] : lane[l];
        for (int l = 0; l < LANES; l++)
            max[c + l] = lane[l];
    }
}

HOT static void powers(float *s, struct sight of, float by, const float *shift, float *sum)
{
    for (int64_t c = 0; c < STRIP; c += LANES) {
        float lane[LANES];
        for (int l = 0; l < LANES; l++)
            lane[l] = sum[c + l];
        for (int64_t i = 0; i < keys_of_lanes(of, c); i++)
            for (int l = 0; l < LANES; l++) {
                float e = exp2_fast(by * s[i * STRIP + c + l] - shift[c + l]);
                s[i * STRIP + c + l] = e;
                lane[l] += e;
            }
        for (int l = 0; l < LANES; l++)
            sum[c + l] = lane[l];
    }
}

void score_powers(const struct head_form *f, float *s, struct sight of, float by, const float *shift,
                  float *sum)
{
    (f->pairs ? pairs_powers : powers)(s, of, by, shift, sum);
}

HOT static void gradients(const struct score_tile *t, struct sight of, float by, const float *lse,
                          const float *delta, float scale)
{
    for (int64_t c = 0; c < STRIP; c += LANES)
        for (int64_t i = 0; i < keys_of_lanes(of, c); i++) {
            float *s = t->s + i * STRIP + c, *dp = t->dp + i * STRIP + c;
#pragma omp simd
            for (int l = 0; l < LANES; l++) {
                float p = exp2_fast(by * s[l] - lse[c + l]);
                s[l] = p;
                dp[l] = p * (dp[l] - delta[c + l]) * scale;
            }
        }
}

void score_gradients(const struct head_form *f, const struct score_tile *t, struct sight of, float by,
                     const float *lse, const float *delta, float scale)
{
    (f->pairs ? pairs_gradients : gradients)(t, of, by, lse, delta, scale);
}

/* SPDX-License-Identifier: MIT */
/* Columns, a query each, LANES of them at a time: what is kept of each stays in registers while keys pass. */
#include "attention.h"
#include "piece.h"

/* The keys that some of LANES queries from c on see. */
LOOP int64_t keys_of_lanes(struct sight of, int64_t c)
{
    return min64(of.keys, of.square + c + LANES);
}

HOT void score_hide(float *s, struct sight of, float value)
{
    for (int64_t i = of.square; i < of.keys; i++) {
        int64_t unseen = i - of.square, c = unseen / LANES * LANES;
        for (int l = 0; l < LANES; l++)
            s[i * STRIP + c + l] = c + l < unseen ? value : s[i * STRIP + c + l];
    }
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

HOT void score_powers(float *s, struct sight of, float by, const float *shift, float *sum)
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

HOT void score_gradients(float *s, float *dp, struct sight of, float by, const float *lse, const float *delta)
{
    for (int64_t c = 0; c < STRIP; c += LANES)
        for (int64_t i = 0; i < keys_of_lanes(of, c); i++) {
            float *p = s + i * STRIP + c, *d = dp + i * STRIP + c;
#pragma omp simd
            for (int l = 0; l < LANES; l++) {
                p[l] = exp2_fast(by * p[l] - lse[c + l]);
                d[l] = p[l] * (d[l] - delta[c + l]);
            }
        }
}

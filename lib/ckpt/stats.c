/* SPDX-License-Identifier: MIT */
#include "ckpt/stats.h"

#include <math.h>

#include "base/error.h"
#include "base/num.h"
#include "tensors/convert.h"

enum { CHUNK = 1 << 14 }; /* numbers at a time */

int tensor_stats(struct tensor_stats *s, struct hf_dir *d, int file, const struct st_tensor *t)
{
    char raw[4 * CHUNK];
    float numbers[CHUNK];
    enum number from = number_of(t->dtype);
    *s = (struct tensor_stats){.known = from != NUMBER_OTHER};
    int64_t count = s->known ? (t->end - t->begin) / number_bytes(from) : 0;
    double squares = 0;
    for (int64_t done = 0, n; done < count; done += n) {
        n = min64(CHUNK, count - done);
        TRY(hf_read(d, file, raw, n * number_bytes(from), t->begin + done * number_bytes(from)));
        convert(numbers, F32, raw, from, n);
        for (int64_t i = 0; i < n; i++) {
            double x = fabs((double)numbers[i]);
            s->odd += !isfinite(x);
            squares += isfinite(x) ? x * x : 0;
            s->max_abs = isfinite(x) && x > s->max_abs ? x : s->max_abs;
        }
    }
    s->norm = sqrt(squares);
    return 0;
}

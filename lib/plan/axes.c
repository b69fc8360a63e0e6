/* SPDX-License-Identifier: MIT */
#include "plan/axes.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/num.h"

const char *const axis_name[AXES] = {"tp", "cp", "ep", "dp", "pp"};

int order_parse(const char *order, enum axis out[static AXES])
{
    bool seen[AXES] = {false};
    int n = 0;
    const char *p = order;
    for (;; p++) {
        size_t length = strcspn(p, "-");
        int a = 0;
        while (a < AXES && (strlen(axis_name[a]) != length || strncmp(axis_name[a], p, length) != 0))
            a++;
        if (a == AXES || seen[a])
            break;
        seen[a] = true;
        out[n++] = a;
        p += length;
        if (!*p)
            break;
    }
    if (n != AXES || *p || p[-1] == '-')
        return error(
            STATUS_USAGE,
            "rule axes-order: order '%s' must name tp, cp, ep, dp and pp once each, as in tp-cp-ep-dp-pp",
            order);
    return 0;
}

void dense_sizes(const struct axes *a, int64_t size[static AXES])
{
    size[AXIS_TP] = a->tp;
    size[AXIS_CP] = a->cp;
    size[AXIS_EP] = 1;
    size[AXIS_DP] = a->dp;
    size[AXIS_PP] = a->pp;
}

void expert_sizes(const struct axes *a, int64_t size[static AXES])
{
    size[AXIS_TP] = a->etp;
    size[AXIS_CP] = 1;
    size[AXIS_EP] = a->ep;
    size[AXIS_DP] = a->edp;
    size[AXIS_PP] = a->pp;
}

int64_t axis_stride(const enum axis order[static AXES], const int64_t size[static AXES], enum axis which)
{
    int64_t stride = 1;
    for (int i = 0; order[i] != which; i++)
        stride *= size[order[i]];
    return stride;
}

/* The least divisor of n above d, 0 when there is none. What to try ends at √n: a divisor above that is n over
 * one below. */
static int64_t divisor_above(int64_t n, int64_t d)
{
    int64_t i = d + 1;
    for (; i <= n / i; i++)
        if (n % i == 0)
            return i;
    for (int64_t q = n / i; q >= 1; q--)
        if (n % q == 0)
            return n / q;
    return 0;
}

/* The greatest divisor of n that is at most d, for d >= 1. */
static int64_t divisor_upto(int64_t n, int64_t d)
{
    return n / divisor_above(n, ceil_div(n, d) - 1);
}

/* The `want` divisors of n nearest to `to`, ascending. */
static int nearest(int64_t n, int64_t to, int64_t *out, int want)
{
    int count = 0;
    for (int64_t d = min64(to, n); d >= 1 && count < want - 1; d--)
        out[count++] = d = divisor_upto(n, d);
    for (int i = 0; i < count / 2; i++) {
        int64_t t = out[i];
        out[i] = out[count - 1 - i];
        out[count - 1 - i] = t;
    }
    for (int64_t d = divisor_above(n, to); d && count < want; d = divisor_above(n, d))
        out[count++] = d;
    return count;
}

void near_divisors(char *buf, size_t room, int64_t n, int64_t to)
{
    int64_t d[4];
    int count = nearest(n, to, d, 4);
    size_t used = 0;
    *buf = '\0';
    for (int i = 0; i < count && used < room; i++)
        used += snprintf(buf + used, room - used, "%s%lld",
                         i == 0           ? ""
                         : i == count - 1 ? " or "
                                          : ", ",
                         (long long)d[i]);
}

/* ---- deriving axes ---- */

static int64_t product(const int64_t *v, int n)
{
    int64_t all = 1;
    for (int i = 0; i < n; i++)
        if (!mul_ok(all, v[i], &all) || all > MAX_WORLD)
            return MAX_WORLD + 1;
    return all;
}

/* The factors do not divide `world`: says so, and which single change would help. */
static int indivisible(const char *rule, const char *const names[3], const int64_t v[3], int64_t world)
{
    char help[120] = "";
    for (int i = 2; i >= 0 && !*help; i--) {
        int64_t others = v[(i + 1) % 3] * v[(i + 2) % 3];
        if (v[i] > 1 && world % others == 0) {
            char list[80];
            near_divisors(list, sizeof list, world / others, v[i]);
            snprintf(help, sizeof help, "; %s %s would", names[i], list);
        }
    }
    return error(STATUS_USAGE, "rule %s: %s %lld · %s %lld · %s %lld = %lld does not divide %lld ranks%s", rule,
                 names[0], (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2],
                 (long long)(v[0] * v[1] * v[2]), (long long)world, help);
}

/* *replicas = world / (a·b·c), or checks that the one given is that. */
static int derive_replicas(const char *rule, const char *const names[4], const int64_t v[3], int64_t *replicas,
                           int64_t world)
{
    int64_t p = product(v, 3);
    if (p > MAX_WORLD)
        return error(STATUS_USAGE, "rule %s: %s %lld · %s %lld · %s %lld is more than %d ranks", rule, names[0],
                     (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2], MAX_WORLD);
    if (world % p)
        return indivisible(rule, names, v, world);
    if (*replicas && *replicas != world / p)
        return error(STATUS_USAGE,
                     "rule %s: %s %lld · %s %lld · %s %lld · %s %lld is not %lld ranks; %s %lld would be", rule,
                     names[0], (long long)v[0], names[1], (long long)v[1], names[2], (long long)v[2], names[3],
                     (long long)*replicas, (long long)world, names[3], (long long)(world / p));
    *replicas = world / p;
    return 0;
}

static int64_t gcd(int64_t a, int64_t b)
{
    return b ? gcd(b, a % b) : a;
}

int axes_derive(struct axes *a, int64_t *world)
{
    int64_t *const ones[] = {&a->tp, &a->cp, &a->etp, &a->ep, &a->pp, &a->vpp};
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++)
        if (*ones[i] == 0)
            *ones[i] = 1;
    const int64_t dense[3] = {a->tp, a->cp, a->pp}, expert[3] = {a->etp, a->ep, a->pp};
    if (*world == 0) { /* the least that holds what was asked for */
        int64_t d = product((int64_t[]){a->tp, a->cp, max64(a->dp, 1)}, 3);
        int64_t e = product((int64_t[]){a->etp, a->ep, max64(a->edp, 1)}, 3);
        int64_t both = a->dp ? d : a->edp ? e : d / gcd(d, e) * e;
        *world = product((int64_t[]){both, a->pp}, 2);
    }
    if (*world > MAX_WORLD)
        return error(STATUS_USAGE, "rule axes-dense: more than %d ranks", MAX_WORLD);
    static const char *const dense_names[4] = {"tp", "cp", "pp", "dp"}, *const expert_names[4] = {"etp", "ep",
                                                                                                  "pp", "edp"};
    if (derive_replicas("axes-dense", dense_names, dense, &a->dp, *world) < 0)
        return -1;
    return derive_replicas("axes-expert", expert_names, expert, &a->edp, *world);
}

/* SPDX-License-Identifier: MIT */
/* Rows in pieces of LANES elements, which are arrays of f32 that stay in registers. Of bf16 a piece holds first
 * the even elements and then the odd ones: each is half of a 32-bit word, and a shift or a mask makes an f32 of
 * it, in every lane at once, where neighbours would have to be moved apart first. What is computed element by
 * element does not see the order, and a sum has one order as good as another.
 *
 *     LOOP void twice_loop(const struct twice *p, int64_t r, enum type T)
 *     {
 *         PIECES(c, n, p->width, {
 *             float v[LANES];
 *             get(v, at(p->x, r * p->width + c, T), n, T);
 *             EACH_LANE v[l] *= 2;
 *             put(at(p->y, r * p->width + c, T), v, n, T);
 *         });
 *     }
 *     IN_LANES(twice, (const struct twice *p, int64_t r), (p, r))      defines twice(p, r)
 */
#ifndef KERNELS_CPU_LANES_H
#define KERNELS_CPU_LANES_H

#include "piece.h"

#define EACH_LANE _Pragma("omp simd") for (int l = 0; l < LANES; l++)

/* The rest of the arguments is a block for c = 0, LANES, … below `width`, with n elements: LANES, but for the
 * last. */
#define PIECES(c, n, width, ...)                                                                               \
    do {                                                                                                       \
        int64_t c = 0;                                                                                         \
        for (; c + LANES <= (width); c += LANES) {                                                             \
            const int64_t n = LANES;                                                                           \
            __VA_ARGS__                                                                                        \
        }                                                                                                      \
        if (c < (width)) {                                                                                     \
            const int64_t n = (width)-c;                                                                       \
            __VA_ARGS__                                                                                        \
        }                                                                                                      \
    } while (0)

/* Whether the processor rounds to bf16 by an instruction of its own, and may (MOEKIT_BF16). */
bool has_narrow(void);

#define WITH_T(...) (__VA_ARGS__, T)
/* A copy of *p, which stays in registers: for all that the compiler knows what is stored may be part of *p. */
#define IN_REGISTERS(p)                                                                                        \
    const __typeof__(*(p)) own = *(p);                                                                         \
    p = &own
#ifdef HOT_LEVELS
/* bf16 that the instruction rounds. */
#define BF16_NATIVE ((enum type)(BF16 + 1))
#define IN_LANES(name, params, args)                                                                           \
    HOT static void name##_hot params                                                                          \
    {                                                                                                          \
        IN_REGISTERS(p);                                                                                       \
        BY_TYPE(p->type, name##_loop WITH_T args);                                                             \
    }                                                                                                          \
    __attribute__((target("arch=x86-64-v4,avx512bf16"))) static void name##_native params                      \
    {                                                                                                          \
        const enum type T = BF16_NATIVE;                                                                       \
        IN_REGISTERS(p);                                                                                       \
        name##_loop WITH_T args;                                                                               \
    }                                                                                                          \
    static void name params                                                                                    \
    {                                                                                                          \
        if (p->type == BF16 && has_narrow())                                                                   \
            name##_native args;                                                                                \
        else                                                                                                   \
            name##_hot args;                                                                                   \
    }
#else
#define IN_LANES(name, params, args)                                                                           \
    static void name params                                                                                    \
    {                                                                                                          \
        IN_REGISTERS(p);                                                                                       \
        BY_TYPE(p->type, name##_loop WITH_T args);                                                             \
    }
#endif

typedef float floats __attribute__((vector_size(LANES * 2), aligned(4), may_alias)); /* half a piece */
typedef uint32_t word __attribute__((may_alias, aligned(2)));

LOOP uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
LOOP float of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* In vectors: of a loop the compiler makes a call, and its array stays in memory. */
LOOP void copy_lanes(float *to, const float *from)
{
    *(floats *)to = *(const floats *)from;
    *(floats *)(to + LANES / 2) = *(const floats *)(from + LANES / 2);
}

/* The n <= LANES elements at x, and zeros. */
LOOP void get(float *v, const void *x, int64_t n, enum type T)
{
    float whole[LANES] = {0};
    if (n < LANES)
        x = memcpy(whole, x, (size_t)n * type_bytes(T));
    const word *w = x;
    if (T == F32) {
        copy_lanes(v, x);
        return;
    }
#ifdef HOT_LEVELS
    floats once; /* the compiler would load it for the shift and again for the mask */
    if (T != BF16) {
        once = *(const floats *)x;
        __asm__("" : "+v"(once));
        w = (const word *)&once;
    }
#endif
#pragma omp simd
    for (int l = 0; l < LANES / 2; l++) {
        v[l] = of_bits(w[l] << 16);
        v[LANES / 2 + l] = of_bits(w[l] & 0xffff0000);
    }
}

/* Asks for memory, so that it is near when it is read or written. */
LOOP void ask_for(const void *p, int64_t bytes)
{
    enum { LINE = 64 };
    for (int64_t i = 0; i < bytes; i += LINE)
        __builtin_prefetch((const char *)p + i);
}
/* For what a pass through a piece at x comes to a little later: with what is computed in between, the processor
 * does not look far enough ahead by itself. */
LOOP void ask_ahead(const void *x, enum type T)
{
    enum { AHEAD = 4096 };
    ask_for((const char *)x + AHEAD, LANES * (int64_t)type_bytes(T));
}

/* Rounds as f32_to_bf16() does. */
LOOP void round_words(word *w, const float *v)
{
#pragma omp simd
    for (int l = 0; l < LANES / 2; l++)
        w[l] = f32_to_bf16(v[l]) | (uint32_t)f32_to_bf16(v[LANES / 2 + l]) << 16;
}

#ifdef HOT_LEVELS
/* The instruction takes denormal numbers for zeros: a piece with any is rounded without it. */
LOOP void round_natively(word *w, const float *v)
{
    typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
    const floats even = *(const floats *)v, odd = *(const floats *)(v + LANES / 2);
    halves rounded;
    bool denormal;
    __asm__("vcvtne2ps2bf16 %1, %2, %0" : "=v"(rounded) : "v"(even), "v"(odd));
    __asm__("vfpclassps $0x20, %1, %%k1\n\tvfpclassps $0x20, %2, %%k2\n\tkortestw %%k1, %%k2"
            : "=@ccnz"(denormal)
            : "v"(even), "v"(odd)
            : "k1", "k2");
    if (__builtin_expect(denormal, false))
        round_words(w, v);
    else
        *(halves *)w =
            __builtin_shuffle(rounded, (halves){0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31});
}
#else
#define round_natively round_words
#endif

/* The first n elements go to y. */
LOOP void put(void *y, const float *v, int64_t n, enum type T)
{
    float whole[LANES];
    void *to = n < LANES ? whole : y;
    if (T == F32)
        copy_lanes(to, v);
    else if (T == BF16)
        round_words(to, v);
    else
        round_natively(to, v);
    if (n < LANES)
        memcpy(y, whole, (size_t)n * type_bytes(T));
}

/* v = 1/v; of BF16_NATIVE within 1/16000, which is 1/30 of what they are rounded by. */
LOOP void invert(float *v, enum type T)
{
#ifdef HOT_LEVELS
    if (T != F32 && T != BF16) {
        floats even = *(const floats *)v, odd = *(const floats *)(v + LANES / 2);
        __asm__("vrcp14ps %0, %0" : "+v"(even));
        __asm__("vrcp14ps %0, %0" : "+v"(odd));
        *(floats *)v = even;
        *(floats *)(v + LANES / 2) = odd;
        return;
    }
#endif
    EACH_LANE v[l] = 1 / v[l];
}

/* The same for n floats that lie beside elements of another type. */
LOOP void get_beside(float *v, const float *x, int64_t n, enum type T)
{
    float row[LANES];
    get(row, x, n, F32);
#pragma omp simd
    for (int l = 0; l < LANES / 2; l++) {
        v[l] = row[T == F32 ? l : 2 * l];
        v[LANES / 2 + l] = row[T == F32 ? LANES / 2 + l : 2 * l + 1];
    }
}
LOOP void put_beside(float *y, const float *v, int64_t n, enum type T)
{
    float row[LANES];
#pragma omp simd
    for (int l = 0; l < LANES / 2; l++) {
        row[T == F32 ? l : 2 * l] = v[l];
        row[T == F32 ? LANES / 2 + l : 2 * l + 1] = v[LANES / 2 + l];
    }
    put(y, row, n, F32);
}

/* A sum of pieces, in vectors: an array would lie in memory between one loop and the next. */
struct lane_sum {
    floats even, odd;
};
/* sum = x, sum += x, and sum += x·y. */
LOOP void start_sum(struct lane_sum *sum, const float *x)
{
    sum->even = *(const floats *)x;
    sum->odd = *(const floats *)(x + LANES / 2);
}
LOOP void add_piece(struct lane_sum *sum, const float *x)
{
    sum->even += *(const floats *)x;
    sum->odd += *(const floats *)(x + LANES / 2);
}
LOOP void add_products(struct lane_sum *sum, const float *x, const float *y)
{
    sum->even += *(const floats *)x * *(const floats *)y;
    sum->odd += *(const floats *)(x + LANES / 2) * *(const floats *)(y + LANES / 2);
}

/* sum += x² of the n elements at x. The instruction takes denormal numbers for zeros, as their squares are. */
LOOP void add_squares(struct lane_sum *sum, const void *x, int64_t n, enum type T)
{
    float v[LANES];
#ifdef HOT_LEVELS
    if (T != F32 && T != BF16 && n == LANES) {
        __asm__("vdpbf16ps %1, %1, %0" : "+v"(sum->even) : "v"(*(const floats *)x));
        return;
    }
#endif
    get(v, x, n, T);
    add_products(sum, v, v);
}

LOOP void sums_to(float *v, const struct lane_sum *sum)
{
    *(floats *)v = sum->even;
    *(floats *)(v + LANES / 2) = sum->odd;
}
/* Halves are added to halves: one after the other each would wait for the last. */
LOOP float total_of(const struct lane_sum *sum)
{
    typedef float half __attribute__((vector_size(LANES), aligned(4), may_alias));
    typedef float quarter __attribute__((vector_size(LANES / 2), aligned(4), may_alias));
    floats whole = sum->even + sum->odd;
    half h = *(const half *)&whole + *((const half *)&whole + 1);
    quarter q = *(const quarter *)&h + *((const quarter *)&h + 1);
    return (q[0] + q[2]) + (q[1] + q[3]);
}

#endif

/* SPDX-License-Identifier: MIT */
/* What kernels/access.h says that operations touch is what they touch, on `ref` and `cpu`.
 *
 * An operation's tensors lie in a block, with gaps between them. The operation runs twice: on the block, and on
 * the block after all bytes that it is said not to read have changed. Then
 *   - what it is not said to write is as before,
 *   - what it is said to write is the same both times: nothing else was read, and all of a WRITE was written.
 * And nothing is said too much: without any one of its ranges, one of the two fails. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/operations.h"

/* Bits of enum access_kind for each byte of the block. */
static void mark(const struct bench *b, const struct access_list *l, char *touched)
{
    memset(touched, 0, b->used);
    for (int i = 0; i < l->count; i++) {
        const struct access *a = &l->list[i];
        for (size_t plane = 0; plane < a->planes; plane++)
            for (size_t r = 0; r < a->rows; r++) {
                char *p = (char *)a->p + plane * a->step + r * a->ld;
                assert_true(p >= b->block && p + a->width <= b->block + b->used);
                for (size_t c = 0; c < a->width; c++)
                    touched[p - b->block + (ptrdiff_t)c] |= (char)a->kind;
            }
    }
}

/* NULL, or what is not so when the operation touches what is in `l`. The block is left as it was. */
static const char *wrong(struct bench *b, const struct example *x, const struct access_list *l)
{
    static char touched[BLOCK], before[BLOCK], after[BLOCK];
    const char *what = NULL;
    mark(b, l, touched);
    memcpy(before, b->block, b->used);
    x->run(b);
    memcpy(after, b->block, b->used);
    for (size_t i = 0; i < b->used; i++) {
        if (!(touched[i] & WRITE) && after[i] != before[i])
            what = "it writes elsewhere";
        if (touched[i] & READ)
            b->block[i] = before[i];
        else
            b->block[i] = (char)(before[i] + 1 + (int)(100 * (1 + uniform(&b->w))));
    }
    x->run(b);
    for (size_t i = 0; i < b->used && !what; i++)
        if (touched[i] & WRITE && b->block[i] != after[i])
            what = "it reads elsewhere, or writes only a part";
    memcpy(b->block, before, b->used);
    return what;
}

/* In a child, as a list of nonsense may lead anywhere. */
static bool noticed(struct bench *b, const struct example *x, const struct access_list *l)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(STDERR_FILENO); /* a sanitizer's report */
        signal(SIGSEGV, SIG_DFL);
        alarm(20);
        _exit(wrong(b, x, l) != NULL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return status != 0;
}

static void set(struct bench *b, const struct example *x, const char *backend, enum type type, int form,
                int64_t n)
{
    b->w = (struct world){.be = backend_open(backend, 0, 1), .type = type, .seed = 99 + (uint64_t)form};
    b->used = 64;
    b->form = form;
    b->n = n;
    b->said.count = 0;
    memset(b->block, 0x3c, BLOCK);
    x->lay(b);
}

static const char *const backends[] = {"ref", "cpu"};

static void touch_what_is_said(void **state)
{
    static const int64_t sizes[] = {0, 1, 6, 19};
    struct bench *b = *state;
    for (size_t i = 0; i < COUNT(examples) * COUNT(sizes) * COUNT(backends) * FORMS * 2; i++) {
        size_t k = i;
        const struct example *x = &examples[k % COUNT(examples)];
        int64_t n = sizes[(k /= COUNT(examples)) % COUNT(sizes)];
        const char *backend = backends[(k /= COUNT(sizes)) % COUNT(backends)];
        int form = (int)((k /= COUNT(backends)) % FORMS);
        set(b, x, backend, k / FORMS ? BF16 : F32, form, n);
        const char *what = wrong(b, x, &b->said);
        if (what)
            fail_msg("%s of %s, form %d, %d rows, %s: %s", x->name, backend, form, (int)n,
                     k / FORMS ? "bf16" : "f32", what);
    }
}

/* Without range i. */
static struct access_list without(const struct access_list *l, int i)
{
    struct access_list less = *l;
    less.count--;
    memmove(&less.list[i], &less.list[i + 1], (size_t)(less.count - i) * sizeof *less.list);
    return less;
}

/* Other ranges have all of it too, as when a gradient takes the place of what it is made from. */
static bool said_twice(const struct bench *b, const struct access_list *less)
{
    static char all[BLOCK], rest[BLOCK];
    mark(b, &b->said, all);
    mark(b, less, rest);
    return memcmp(all, rest, b->used) == 0;
}

static void say_no_more(void **state)
{
    struct bench *b = *state;
    int tried = 0;
    for (size_t k = 0; k < COUNT(examples); k++)
        for (int form = 0; form < FORMS; form++) {
            const struct example *x = &examples[k];
            bool needed[ACCESS_MOST] = {0};
            for (size_t be = 0; be < COUNT(backends); be++) {
                set(b, x, backends[be], F32, form, 7);
                for (int i = 0; i < b->said.count; i++, tried++) {
                    struct access_list less = without(&b->said, i);
                    needed[i] = needed[i] || said_twice(b, &less) || noticed(b, x, &less);
                }
            }
            for (int i = 0; i < b->said.count; i++)
                if (!needed[i])
                    fail_msg("%s, form %d: range %d is not touched", x->name, form, i);
        }
    assert_true(tried > 1000);
}

int main(void)
{
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    static struct bench b;
    b.block = aligned_alloc(64, BLOCK);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(touch_what_is_said, &b),
        cmocka_unit_test_prestate(say_no_more, &b),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(b.block);
    return failed;
}

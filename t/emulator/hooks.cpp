/* SPDX-License-Identifier: MIT */
/* What the compiler calls in a kernel: __tsan_* at each load and store (-fsanitize=thread, of which only the
 * calls are used, and not its library), __ubsan_* where -fsanitize=alignment,bounds,signed-integer-overflow saw
 * something wrong. Code of the host in the same files calls them too, which does nothing. */
#include "emulator.h"

#include <link.h>

#define HOOK extern "C" __attribute__((visibility("default")))
#define HERE __builtin_return_address(0)

/* Constants: what is loaded with the program and not written. */
static int find_constant(struct dl_phdr_info *info, size_t, void *data)
{
    uintptr_t p = *static_cast<uintptr_t *>(data);
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && p - from < info->dlpi_phdr[i].p_memsz)
            return 1;
    }
    return 0;
}

static void elsewhere(const void *p, size_t bytes, access how, const void *pc)
{
    uintptr_t address = reinterpret_cast<uintptr_t>(p);
    if (fiber_owns(p) || memory_pinned(p) || (how == ACCESS_READ && dl_iterate_phdr(find_constant, &address)))
        return;
    report(pc, "%s outside: %zu bytes at %p, which is not device memory",
           how == ACCESS_READ ? "reads" : "writes", bytes, p);
}

static inline void touch(const void *p, size_t bytes, access how, bool aligned, const void *pc)
{
    if (!now)
        return;
    if (aligned && reinterpret_cast<uintptr_t>(p) % bytes)
        report(pc, "misaligned: %zu bytes at %s", bytes,
               in_memory(p) ? memory_name(p).c_str() : "an address that is not a multiple of them");
    if (in_memory(p))
        shadow_access(p, bytes, how, pc);
    else
        elsewhere(p, bytes, how, pc);
}

#define SIZE(n)                                                                                                \
    HOOK void __tsan_read##n(void *p)                                                                          \
    {                                                                                                          \
        touch(p, n, ACCESS_READ, true, HERE);                                                                  \
    }                                                                                                          \
    HOOK void __tsan_write##n(void *p)                                                                         \
    {                                                                                                          \
        touch(p, n, ACCESS_WRITE, true, HERE);                                                                 \
    }
#define UNALIGNED(n)                                                                                           \
    HOOK void __tsan_unaligned_read##n(void *p)                                                                \
    {                                                                                                          \
        touch(p, n, ACCESS_READ, false, HERE);                                                                 \
    }                                                                                                          \
    HOOK void __tsan_unaligned_write##n(void *p)                                                               \
    {                                                                                                          \
        touch(p, n, ACCESS_WRITE, false, HERE);                                                                \
    }
SIZE(1)
SIZE(2)
SIZE(4)
SIZE(8)
SIZE(16)
UNALIGNED(2)
UNALIGNED(4)
UNALIGNED(8)
UNALIGNED(16)

HOOK void __tsan_read_range(void *p, size_t bytes)
{
    touch(p, bytes, ACCESS_READ, false, HERE);
}
HOOK void __tsan_write_range(void *p, size_t bytes)
{
    touch(p, bytes, ACCESS_WRITE, false, HERE);
}
HOOK void __tsan_vptr_update(void *, void *)
{
}
HOOK void __tsan_func_entry(void *)
{
}
HOOK void __tsan_func_exit()
{
}
HOOK void __tsan_init()
{
}

/* The first member of what each __ubsan_ function is given (GCC's libubsan, ubsan_value.h). */
struct source_place {
    const char *file;
    uint32_t line, column;
};
static void wrong(const char *what, const void *data)
{
    const source_place *at = static_cast<const source_place *>(data);
    report(nullptr, "%s at %s:%u", what, at->file, at->line);
}

HOOK void __ubsan_handle_type_mismatch_v1(void *data, void *p)
{
    wrong(p ? "misaligned: a vector or number" : "a null pointer is used", data);
}
HOOK void __ubsan_handle_out_of_bounds(void *data, void *)
{
    wrong("outside of a local array", data);
}
HOOK void __ubsan_handle_add_overflow(void *data, void *, void *)
{
    wrong("signed overflow of a sum", data);
}
HOOK void __ubsan_handle_sub_overflow(void *data, void *, void *)
{
    wrong("signed overflow of a difference", data);
}
HOOK void __ubsan_handle_mul_overflow(void *data, void *, void *)
{
    wrong("signed overflow of a product", data);
}
HOOK void __ubsan_handle_negate_overflow(void *data, void *)
{
    wrong("signed overflow of a negation", data);
}
HOOK void __ubsan_handle_divrem_overflow(void *data, void *, void *)
{
    wrong("a division by zero, or its overflow,", data);
}

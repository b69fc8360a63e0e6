/* SPDX-License-Identifier: MIT */
/* Addresses are given out in pages of 64 KiB, the page after an allocation stays empty, and the next one begins
 * behind the last: what is read past an end or after a free belongs to nobody. */
#include "emulator.h"

#include <algorithm>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, bytes)   ((void)(p), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(p, bytes) ((void)(p), (void)(bytes))
#endif

constexpr size_t PAGE = 64 << 10;
constexpr size_t PAGES = (MEMORY_SPAN - SHARED_SPAN) / PAGE;
constexpr int POISON = 0xff; /* a NaN in f32, bf16 and f64; -1 in integers */

struct allocation {
    size_t first, pages, bytes; /* pages counted from the end of shared memory */
};
struct shared_array {
    const void *site;
    const char *name;
    size_t offset, bytes;
};

char *memory_base;
static std::vector<allocation> allocations{{}}; /* by number; 0 is none */
static uint32_t owner[PAGES];                   /* the number of the allocation that has the page */
static std::vector<uint32_t> live;              /* numbers of those that are not freed */
static size_t cursor, taken;
static bool is_open;

static std::vector<shared_array> arrays; /* of the block; the dynamic one first */
static size_t shared_end;

static char *page_address(size_t page)
{
    return memory_base + SHARED_SPAN + page * PAGE;
}

/* ---- closed memory ---- */

/* A fault within memory is what this is for; another goes its usual way. */
static void on_fault(int signal_number, siginfo_t *info, void *)
{
    if (in_memory(info->si_addr))
        report(nullptr, "host access to device memory: %s", memory_name(info->si_addr).c_str());
    signal(signal_number, SIG_DFL);
}

void memory_begin()
{
    if (memory_base)
        return;
    void *p = mmap(nullptr, MEMORY_SPAN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        report(nullptr, "cannot reserve %zu bytes of addresses", MEMORY_SPAN);
    madvise(p, MEMORY_SPAN, MADV_DONTDUMP);
    memory_base = static_cast<char *>(p);
    ASAN_POISON_MEMORY_REGION(memory_base, SHARED_SPAN);
    /* On a stack of its own: the fault may come where the stack pointer is not to be trusted (lib/README). */
    static char stack[256 << 10];
    stack_t alternative = {};
    alternative.ss_sp = stack;
    alternative.ss_size = sizeof stack;
    sigaltstack(&alternative, nullptr);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, nullptr);
}

/* What nobody has stays closed always. */
static void protect(int how)
{
    mprotect(memory_base, SHARED_SPAN, how);
    for (uint32_t number : live)
        mprotect(page_address(allocations[number].first), allocations[number].pages * PAGE, how);
}

void memory_open()
{
    memory_begin();
    if (!is_open)
        protect(PROT_READ | PROT_WRITE);
    is_open = true;
}

void memory_close()
{
    if (is_open)
        protect(PROT_NONE);
    is_open = false;
}

/* ---- device memory ---- */

/* The poison of a large allocation is pages of a file of it, which are copied when they are written: what is
 * never touched costs nothing, when it is made and each time that memory is closed. */
constexpr size_t FILE_BYTES = 8 << 20, LARGE = 4 << 20;

static void poison_large(char *p, size_t bytes)
{
    static int file = -1;
    if (file < 0) {
        file = memfd_create("poison", MFD_CLOEXEC);
        std::vector<char> block(FILE_BYTES, static_cast<char>(POISON));
        if (file < 0 || write(file, block.data(), FILE_BYTES) != static_cast<ssize_t>(FILE_BYTES))
            report(nullptr, "cannot make a file of %zu bytes in memory", FILE_BYTES);
    }
    for (size_t at = 0; at < bytes; at += FILE_BYTES)
        if (mmap(p + at, bytes - at < FILE_BYTES ? bytes - at : FILE_BYTES,
                 is_open ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, file,
                 0) == MAP_FAILED)
            report(nullptr, "cannot map %zu bytes", bytes);
}

/* The first of `pages` free pages from `from` on; PAGES if there are none. */
static size_t free_pages(size_t from, size_t pages)
{
    size_t run = 0;
    for (size_t i = from; i < PAGES; i++) {
        run = owner[i] ? 0 : run + 1;
        if (run == pages)
            return i + 1 - pages;
    }
    return PAGES;
}

void *memory_alloc(size_t bytes)
{
    memory_begin();
    size_t pages = (bytes + PAGE - 1) / PAGE;
    if (bytes > memory_left())
        return nullptr;
    size_t first = free_pages(cursor, pages + 1);
    if (first == PAGES)
        first = free_pages(0, pages + 1);
    if (first == PAGES)
        return nullptr;
    cursor = first + pages + 1;
    taken += pages;
    for (size_t i = first; i < first + pages; i++)
        owner[i] = static_cast<uint32_t>(allocations.size());
    live.push_back(static_cast<uint32_t>(allocations.size()));
    allocations.push_back({first, pages, bytes});
    ASAN_UNPOISON_MEMORY_REGION(page_address(first), bytes);
    ASAN_POISON_MEMORY_REGION(page_address(first) + bytes, (pages + 1) * PAGE - bytes);
    if (bytes >= LARGE) {
        poison_large(page_address(first), pages * PAGE);
    } else {
        mprotect(page_address(first), pages * PAGE, PROT_READ | PROT_WRITE);
        memset(page_address(first), POISON, bytes);
        if (!is_open)
            mprotect(page_address(first), pages * PAGE, PROT_NONE);
    }
    return page_address(first);
}

static uint32_t owner_of(const void *p)
{
    size_t offset = static_cast<size_t>(static_cast<const char *>(p) - memory_base);
    return offset < SHARED_SPAN || offset >= SHARED_SPAN + PAGES * PAGE ? 0
                                                                        : owner[(offset - SHARED_SPAN) / PAGE];
}

bool memory_free(void *p)
{
    uint32_t number = owner_of(p);
    const allocation a = allocations[number];
    if (!number || p != page_address(a.first))
        return false;
    for (size_t i = a.first; i < a.first + a.pages; i++)
        owner[i] = 0;
    taken -= a.pages;
    live.erase(std::find(live.begin(), live.end(), number));
    shadow_forget(p, a.pages * PAGE);
    ASAN_POISON_MEMORY_REGION(p, a.pages * PAGE);
    mmap(p, a.pages * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return true;
}

size_t memory_used()
{
    return taken * PAGE;
}

size_t memory_left()
{
    return (PAGES - taken) * PAGE / 2; /* half: the rest keeps allocations apart */
}

/* ---- shared memory ---- */

constexpr size_t GAP = 256; /* between arrays, so that one's end is not the other's beginning */

static void *shared_add(const void *site, const char *name, size_t bytes)
{
    size_t offset = shared_end;
    shared_end += (bytes + GAP + 255) / 256 * 256;
    if (shared_end > SHARED_SPAN)
        report(nullptr, "more than %zu bytes of shared memory", SHARED_SPAN);
    arrays.push_back({site, name, offset, bytes});
    ASAN_UNPOISON_MEMORY_REGION(memory_base + offset, bytes);
    memset(memory_base + offset, POISON, bytes);
    return memory_base + offset;
}

void shared_begin(size_t dynamic)
{
    for (const shared_array &a : arrays)
        ASAN_POISON_MEMORY_REGION(memory_base + a.offset, a.bytes);
    arrays.clear();
    shared_end = GAP;
    shared_add(nullptr, "dynamic", dynamic);
}

size_t shared_used()
{
    size_t bytes = 0;
    for (const shared_array &a : arrays)
        bytes += a.bytes;
    return bytes;
}

void *emulated_shared(const void *site, const char *name, size_t bytes)
{
    for (const shared_array &a : arrays)
        if (a.site == site)
            return memory_base + a.offset;
    if (shared_used() - arrays[0].bytes + bytes > SHARED_STATIC_MOST)
        report(nullptr, "more than %zu bytes of shared arrays", SHARED_STATIC_MOST);
    return shared_add(site, name, bytes);
}

void *emulated_shared_dynamic()
{
    return memory_base + arrays[0].offset;
}

static const shared_array *array_of(const void *p)
{
    size_t offset = static_cast<size_t>(static_cast<const char *>(p) - memory_base);
    const shared_array *before = nullptr;
    for (const shared_array &a : arrays)
        if (a.offset <= offset)
            before = &a;
    return before;
}

/* ---- both ---- */

bool memory_inside(const void *p, size_t bytes)
{
    size_t offset = static_cast<size_t>(static_cast<const char *>(p) - memory_base);
    if (in_shared(p)) {
        const shared_array *a = array_of(p);
        return a && offset - a->offset + bytes <= a->bytes;
    }
    uint32_t number = owner_of(p);
    return number && static_cast<const char *>(p) + bytes <=
                         page_address(allocations[number].first) + allocations[number].bytes;
}

std::string memory_name(const void *p)
{
    char text[160];
    const char *c = static_cast<const char *>(p);
    if (in_shared(p)) {
        const shared_array *a = array_of(p);
        snprintf(text, sizeof text, "shared array '%s' (%zu bytes) + %td", a ? a->name : "?", a ? a->bytes : 0,
                 c - memory_base - static_cast<ptrdiff_t>(a ? a->offset : 0));
        return text;
    }
    /* Past the end of an allocation it is the one before that was meant; of a freed one the number is kept. */
    for (size_t i = allocations.size() - 1; in_memory(p) && i > 0; i--) {
        const allocation &a = allocations[i];
        if (c >= page_address(a.first) && c < page_address(a.first + a.pages + 1)) {
            snprintf(text, sizeof text, "%sallocation %zu (%zu bytes) + %td",
                     owner[a.first] == i ? "" : "freed ", i, a.bytes, c - page_address(a.first));
            return text;
        }
    }
    snprintf(text, sizeof text, "address %p", p);
    return text;
}

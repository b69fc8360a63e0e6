/* SPDX-License-Identifier: MIT */
/* The threads of a block are fibers: each has a stack, one runs at a time, and it goes on until it must wait.
 * The rounds in which they are resumed take them in a random order. */
#include "emulator.h"

#include <algorithm>
#include <stdlib.h>
#include <sys/mman.h>
#if defined __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined __x86_64__
#include <ucontext.h>
#endif

constexpr size_t STACK = 128 << 10, GUARD = 4 << 10;

block_state block;
fiber *now;
static char *stacks;
static void (*kernel_run)(const void *);
static const void *kernel_call;

/* ---- switching ---- */

#if defined __x86_64__
/* Keeps the registers that a function must keep on the stack, its pointer in *from, and goes on with `to`. */
extern "C" void emulated_switch(void **from, void *to);
asm(R"(
    .text
    .globl emulated_switch
    .hidden emulated_switch
    .type emulated_switch, @function
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulated_switch, .-emulated_switch
)");
static void *scheduler;

static void fiber_prepare(fiber &f, char *top, void (*main)())
{
    void **sp = reinterpret_cast<void **>(top);
    *--sp = nullptr; /* where main() would return to: keeps its stack aligned as after a call */
    *--sp = reinterpret_cast<void *>(main);
    f.stack_pointer = sp - 6; /* the six registers, whatever is in them */
}
static void go_to_fiber(fiber &f)
{
    emulated_switch(&scheduler, f.stack_pointer);
}
static void go_to_scheduler(fiber &f)
{
    emulated_switch(&f.stack_pointer, scheduler);
}
#else
static ucontext_t scheduler, contexts[BLOCK_THREADS];

static void fiber_prepare(fiber &f, char *top, void (*main)())
{
    ucontext_t &c = contexts[f.number];
    getcontext(&c);
    c.uc_stack.ss_sp = top - (STACK - GUARD);
    c.uc_stack.ss_size = STACK - GUARD;
    makecontext(&c, main, 0);
}
static void go_to_fiber(fiber &f)
{
    swapcontext(&scheduler, &contexts[f.number]);
}
static void go_to_scheduler(fiber &f)
{
    swapcontext(&contexts[f.number], &scheduler);
}
#endif

/* AddressSanitizer is told of each switch: which stack comes next, and then that it has come. */
#if defined __SANITIZE_ADDRESS__
static const void *scheduler_stack;
static size_t scheduler_bytes;

static void to_fiber(fiber &f)
{
    void *kept;
    __sanitizer_start_switch_fiber(&kept, stacks + f.number * STACK + GUARD, STACK - GUARD);
    go_to_fiber(f);
    __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
}
static void fiber_arrives(void *kept)
{
    __sanitizer_finish_switch_fiber(kept, &scheduler_stack, &scheduler_bytes);
}
static void to_scheduler(fiber &f)
{
    void *kept;
    __sanitizer_start_switch_fiber(f.state == FIBER_GONE ? nullptr : &kept, scheduler_stack, scheduler_bytes);
    go_to_scheduler(f);
    fiber_arrives(kept);
}
#else
#define to_fiber     go_to_fiber
#define to_scheduler go_to_scheduler
static void fiber_arrives(void *)
{
}
#endif

static void fiber_main()
{
    fiber_arrives(nullptr);
    kernel_run(kernel_call);
    now->state = FIBER_GONE;
    warp_left();
    for (;;)
        to_scheduler(*now);
}

void fiber_wait(fiber_state state)
{
    now->state = state;
    to_scheduler(*now);
}

bool fiber_owns(const void *p)
{
    const char *stack = stacks + now->number * STACK;
    return p >= stack && p < stack + STACK;
}

/* ---- barriers ---- */

static uint32_t count(fiber_state state)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < block.threads; i++)
        n += block.fibers[i].state == state;
    return n;
}

static fiber *one(fiber_state state)
{
    for (uint32_t i = 0; i < block.threads; i++)
        if (block.fibers[i].state == state)
            return &block.fibers[i];
    return nullptr;
}

static const char *leaf(const char *path)
{
    const char *slash = path;
    for (const char *c = path; *c; c++)
        if (*c == '/')
            slash = c + 1;
    return slash;
}

void emulated_syncthreads(const char *file, int line)
{
    now->file = leaf(file);
    now->line = line;
    fiber_wait(FIBER_AT_BARRIER);
}

/* All threads that are left wait at a barrier: it must be one for all of the block. */
static void barrier_passed()
{
    fiber *first = one(FIBER_AT_BARRIER), *gone = one(FIBER_GONE);
    now = first;
    if (gone)
        report(nullptr, "barrier after exit: __syncthreads() at %s:%d, when thread %u has left", first->file,
               first->line, gone->number);
    for (uint32_t i = 0; i < block.threads; i++) {
        fiber &f = block.fibers[i];
        if (f.line != first->line || f.file != first->file)
            report(nullptr, "divergent barriers: thread %u at %s:%d, thread %u at %s:%d", first->number,
                   first->file, first->line, f.number, f.file, f.line);
        f.state = FIBER_READY;
    }
    block.barrier = ++block.time;
}

/* Nobody can go on, and not all wait at a barrier: some lane waits for others of its warp. */
[[noreturn]] static void stuck()
{
    fiber *f = now = one(FIBER_AT_WARP);
    const fiber *lanes = &block.fibers[f->number / 32 * 32];
    for (uint32_t l = 0; l < 32 && f->number / 32 * 32 + l < block.threads; l++) {
        const fiber &other = lanes[l];
        if (!(f->call.mask >> l & 1))
            continue;
        if (other.state == FIBER_AT_BARRIER)
            report(f->call.pc, "absent lane: %s waits for thread %u, which waits in __syncthreads() at %s:%d",
                   f->call.name, other.number, other.file, other.line);
        if (other.state == FIBER_AT_WARP &&
            (other.call.mask != f->call.mask || other.call.combine != f->call.combine))
            report(f->call.pc,
                   "absent lane: %s with mask 0x%x waits for thread %u, which is in %s with mask 0x%x",
                   f->call.name, f->call.mask, other.number, other.call.name, other.call.mask);
    }
    report(f->call.pc, "absent lane: %s with mask 0x%x waits for ever", f->call.name, f->call.mask);
}

/* ---- a block ---- */

static void block_begin()
{
    if (!stacks) {
        void *p = mmap(nullptr, BLOCK_THREADS * STACK, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED)
            report(nullptr, "no memory for the stacks of threads");
        stacks = static_cast<char *>(p);
        for (uint32_t i = 0; i < BLOCK_THREADS; i++)
            mprotect(stacks + i * STACK, GUARD, PROT_NONE);
    }
    block.threads = block.size.x * block.size.y * block.size.z;
    block.time = 1;
    block.barrier = 1;
    for (uint32_t w = 0; w < BLOCK_THREADS / 32; w++) { /* threads that never were count as gone */
        uint32_t first = 32 * w, there = block.threads > first ? std::min(block.threads - first, 32u) : 0;
        block.waiting[w] = 0;
        block.gone[w] = 32 - there;
    }
    for (uint32_t i = 0; i < block.threads; i++) {
        fiber &f = block.fibers[i];
        f.number = i;
        f.index.x = i % block.size.x;
        f.index.y = i / block.size.x % block.size.y;
        f.index.z = i / block.size.x / block.size.y;
        f.state = FIBER_READY;
        f.copies.clear();
        f.groups = 0;
        f.fenced = false;
        for (uint32_t &known : block.known[i])
            known = 0;
        fiber_prepare(f, stacks + (i + 1) * STACK, fiber_main);
    }
}

/* Resumes each thread that is ready once, in a random order: every stride-th of the next power of two. */
static bool resume_each()
{
    uint32_t size = 1;
    while (size < block.threads)
        size *= 2;
    uint32_t stride = 2 * random_below(size) + 1, at = random_below(size);
    bool any = false;
    for (uint32_t i = 0; i < size; i++) {
        at = (at + stride) % size;
        if (at >= block.threads || block.fibers[at].state != FIBER_READY)
            continue;
        now = &block.fibers[at];
        to_fiber(*now);
        any = true;
    }
    now = nullptr;
    return any;
}

void block_run(void (*run)(const void *), const void *call)
{
    kernel_run = run;
    kernel_call = call;
    block_begin();
    for (;;) {
        while (resume_each())
            ;
        uint32_t gone = count(FIBER_GONE);
        if (gone == block.threads)
            return;
        if (count(FIBER_AT_BARRIER) + gone < block.threads)
            stuck();
        barrier_passed();
    }
}

uint3 emulated_thread_index()
{
    return now->index;
}
uint3 emulated_block_index()
{
    return block.index;
}
dim3 emulated_block_size()
{
    return block.size;
}
dim3 emulated_grid_size()
{
    return block.grid;
}

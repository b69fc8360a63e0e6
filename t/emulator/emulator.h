/* SPDX-License-Identifier: MIT */
/* What the parts of the emulator share. README says how it works; each section is the file of its name. All
 * runs on the one thread that calls CUDA's functions. */
#ifndef EMULATOR_EMULATOR_H
#define EMULATOR_EMULATOR_H

#include <cuda_runtime_api.h>
#include <functional>
#include <memory>
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

/* ---- report.cpp ---- */

/* Says what was found, with the kernel, the thread that runs and the seed, and ends the process. `pc`: the
 * address of the code, or NULL. */
[[noreturn]] void report(const void *pc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
constexpr int REPORTED = 86;               /* its exit status */
std::string where(const void *pc);         /* " at f(int) file.cu:12" as far as it is known */
std::string function_name(const void *pc); /* a kernel's, from its address */
std::string operation_name(const struct operation &op);

/* A number below n, of the one generator that all random choices come from ($MOEKIT_EMULATOR_SEED). */
uint32_t random_below(uint32_t n);
uint64_t random_seed();

/* ---- memory.cpp ---- */

/* One stretch of addresses: first the running block's shared memory, then device memory. Outside of operations
 * nobody may touch it. */
constexpr size_t SHARED_SPAN = 1 << 20;
constexpr size_t MEMORY_SPAN = size_t{8} << 30;
extern char *memory_base;

static inline bool in_memory(const void *p)
{
    return static_cast<size_t>(static_cast<const char *>(p) - memory_base) < MEMORY_SPAN;
}
static inline bool in_shared(const void *p)
{
    return static_cast<size_t>(static_cast<const char *>(p) - memory_base) < SHARED_SPAN;
}
void memory_begin(); /* before the first use; does nothing later */
void *memory_alloc(size_t bytes);
bool memory_free(void *p); /* false: not one that memory_alloc() gave */
size_t memory_left();
size_t memory_used();
bool memory_pinned(const void *p); /* page-locked memory of the host (runtime.cpp) */
void memory_open();
void memory_close();
/* [p, p+bytes) lies within one allocation or, for shared memory, one array of the block. */
bool memory_inside(const void *p, size_t bytes);
std::string memory_name(const void *p); /* "allocation 3 (1024 bytes) + 1028", "shared array 'tile' (…) + 4" */

/* The block's shared arrays. A kernel may have 48 KiB of static ones, and 163 KiB if it asks (sm_80). */
constexpr size_t SHARED_STATIC_MOST = 48 << 10, SHARED_MOST = 163 << 10;
void shared_begin(size_t dynamic);
size_t shared_used();

/* ---- stream.cpp ---- */

/* What is queued: a kernel, a copy, a product, the record of an event, an operation of NCCL. It may run when
 * what it comes `after` has run. `clock[s]` counts the operations of stream s that are known to come before it
 * (vector clocks: Mattern 1989; the count of its own stream includes itself). */
struct operation {
    std::string name;
    const void *kernel = nullptr; /* the address of a kernel, which then is its name */
    std::function<void()> body;
    std::function<bool()> poll; /* in place of a body: moves it on, and says whether it is done */
    std::vector<std::shared_ptr<operation>> after;
    std::vector<uint32_t> clock;
    uint32_t stream = 0;
    uint32_t first_run = 0, runs = 1; /* see shadow.cpp */
    bool host = false;                /* runs with device memory closed */
    bool begun = false;
    bool done = false;
};

/* Queues an operation behind what is in `s`. */
std::shared_ptr<operation> stream_queue(cudaStream_t s, operation op);
void stream_finish(const std::shared_ptr<operation> &op); /* runs legal operations until this one has run */
/* CUDA may wait for the whole device: where it allocates memory, and where it loads a kernel, at its first
 * use. Nobody may count on it: it orders nothing. */
void stream_may_finish();
void stream_let_run(); /* time passes: some operations run, or none */
/* What is queued in s from now on is a mistake, and why; NULL: no longer. */
void stream_hold(cudaStream_t s, const char *why);
cudaError_t injected(const char *function); /* the failure that $MOEKIT_EMULATOR_FAIL asks for in this call */
extern const operation *running;            /* the operation that runs, or NULL */

/* The error that cudaGetLastError() gives and forgets. Returns e. */
cudaError_t keep_error(cudaError_t e);
/* The error of a kernel that went wrong: each later call returns it, as a device does. */
extern cudaError_t sticky_error;
/* How each function of CUDA begins. */
#define BEGIN                                                                                                  \
    do {                                                                                                       \
        cudaError_t e_ = injected(__func__);                                                                   \
        if (e_ == cudaSuccess)                                                                                 \
            e_ = sticky_error;                                                                                 \
        if (e_ != cudaSuccess)                                                                                 \
            return keep_error(e_);                                                                             \
    } while (0)

/* ---- graph.cpp ---- */

bool capture_is(cudaStream_t s); /* what is queued in s becomes a graph */
/* `again` queues it in a stream, at each launch. */
void capture_add(std::function<void(cudaStream_t)> again);
bool capture_forbids(); /* true, and no graph comes of it, while a stream captures */
/* And so those do, after BEGIN, which must not be called then. */
#define NOT_IN_CAPTURE                                                                                         \
    do {                                                                                                       \
        if (capture_forbids())                                                                                 \
            return keep_error(cudaErrorStreamCaptureUnsupported);                                              \
    } while (0)

/* ---- block.cpp: one block, its threads as fibers ---- */

enum fiber_state { FIBER_READY, FIBER_AT_BARRIER, FIBER_AT_WARP, FIBER_GONE };

/* What a lane brings to an operation of its warp. */
struct warp_call {
    const char *name;
    unsigned mask;
    void (*combine)(struct fiber *lanes, unsigned mask);
    const void *in;
    void *out;
    const void *more;
    int by, width, kind;
    const void *pc;
};

struct async_copy {
    void *shared;
    const void *global;
    int bytes, group;
};

struct fiber {
    void *stack_pointer;
    uint3 index;
    uint32_t number; /* in the block */
    fiber_state state;
    const char *file; /* of the barrier that it waits at */
    int line;
    warp_call call;
    std::vector<async_copy> copies; /* begun and not waited for */
    int groups;                     /* committed */
    bool fenced;                    /* __threadfence() since its last atomic */
};

constexpr uint32_t BLOCK_THREADS = 1024;
struct block_state {
    dim3 grid, size;
    uint3 index;
    uint32_t threads, run;
    uint32_t time;    /* counts barriers of the block and of warps; accesses are stamped with it */
    uint32_t barrier; /* `time` after the last __syncthreads() */
    fiber fibers[BLOCK_THREADS];
    uint32_t waiting[BLOCK_THREADS / 32], gone[BLOCK_THREADS / 32]; /* lanes of each warp: in a call, left */
    uint32_t known[BLOCK_THREADS][32]; /* known[t][l]: t comes after what lane l of its warp did before */
};
extern block_state block;
extern fiber *now; /* the thread that runs, or NULL */

void block_run(void (*run)(const void *), const void *call);
void fiber_wait(fiber_state state); /* until another thread makes it FIBER_READY */
/* Waits until all lanes of call.mask that have not left have made such a call; the last one combines. */
void warp_meet(const warp_call &call);
void warp_left();               /* the running thread has left: others may wait for no one any more */
bool fiber_owns(const void *p); /* on the running thread's stack */

/* ---- shadow.cpp: who touched what, and in which order ---- */

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_ATOMIC, ACCESS_BEGIN_COPY };
void shadow_operation(operation &op); /* op begins */
/* The running thread (of a kernel), or the running operation (a copy, a product), touches [p, p+bytes), which
 * must lie in memory: bounds, then races. */
void shadow_access(const void *p, size_t bytes, access how, const void *pc);
void shadow_forget(const void *pages, size_t bytes); /* freed; whole pages of memory.cpp */
void shadow_fence_atomic(const void *p);             /* the running thread did an atomic on p after a fence */

#endif

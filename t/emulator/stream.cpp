/* SPDX-License-Identifier: MIT */
/* Streams are queues that run only when somebody waits, and then in a random legal order: as late as a device
 * could, and no more in order than it must. */
#include "emulator.h"

#include <algorithm>
#include <deque>
#include <set>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "device.h"

struct CUstream_st {
    uint32_t number;
    bool alone; /* cudaStreamNonBlocking: not ordered with the default stream */
    std::deque<std::shared_ptr<operation>> queue;
    std::shared_ptr<operation> last;
    std::vector<std::shared_ptr<operation>> after; /* what the next operation waits for besides */
    const char *held;                              /* why nothing may be queued; NULL: it may */
    std::vector<uint32_t> clock;                   /* of the last operation, and of what was waited for */
};
struct CUevent_st {
    std::shared_ptr<operation> record; /* NULL: never recorded, and as good as done */
    std::shared_ptr<double> time;      /* seconds */
    bool timed;
    bool captured; /* recorded within a capture: it is a place in a graph */
};

const operation *running;
cudaError_t sticky_error;
/* [0]: the default stream. Never freed: it is there when others end. */
static std::vector<cudaStream_t> &streams = *new std::vector<cudaStream_t>;
static uint32_t stream_count;
static std::vector<uint32_t> host_clock; /* what the host has waited for */

static void merge(std::vector<uint32_t> &into, const std::vector<uint32_t> &other)
{
    if (into.size() < other.size())
        into.resize(other.size());
    for (size_t i = 0; i < other.size(); i++)
        into[i] = std::max(into[i], other[i]);
}

static cudaStream_t stream_make(bool alone)
{
    cudaStream_t s = new CUstream_st();
    s->number = stream_count++;
    s->alone = alone;
    streams.push_back(s);
    return s;
}

static cudaStream_t stream_of(cudaStream_t s)
{
    if (streams.empty())
        stream_make(false);
    return s == nullptr || s == cudaStreamLegacy ? streams[0] : s;
}

static void wait_for(cudaStream_t s, const std::shared_ptr<operation> &op)
{
    if (!op)
        return;
    s->after.push_back(op);
    merge(s->clock, op->clock);
}

std::shared_ptr<operation> stream_queue(cudaStream_t to, operation op)
{
    cudaStream_t s = stream_of(to);
    if (s->held)
        report(nullptr, "%s is queued, and %s", operation_name(op).c_str(), s->held);
    if (capture_is(s)) {
        capture_add([op](cudaStream_t in) { stream_queue(in, op); });
        op.done = true; /* nobody waits for it */
        return std::make_shared<operation>(std::move(op));
    }
    if (s == streams[0]) /* the default stream and the others wait for each other */
        for (cudaStream_t other : streams)
            if (other != s && !other->alone)
                wait_for(s, other->last);
    if (s != streams[0] && !s->alone)
        wait_for(s, streams[0]->last);
    merge(s->clock, host_clock);
    if (s->clock.size() <= s->number)
        s->clock.resize(s->number + 1);
    s->clock[s->number]++;
    op.clock = s->clock;
    op.stream = s->number;
    op.after.insert(op.after.end(), s->after.begin(), s->after.end());
    s->after.clear();
    s->last = std::make_shared<operation>(std::move(op));
    s->queue.push_back(s->last);
    return s->last;
}

/* ---- running ---- */

static bool may_run(const cudaStream_t s)
{
    if (s->queue.empty())
        return false;
    for (const std::shared_ptr<operation> &op : s->queue.front()->after)
        if (!op->done)
            return false;
    return true;
}

/* Runs one operation that may run, or moves it on. */
enum outcome { NONE_MAY, WAITS, RAN };
static outcome run_one()
{
    std::vector<cudaStream_t> ready;
    for (cudaStream_t s : streams)
        if (may_run(s))
            ready.push_back(s);
    if (ready.empty())
        return NONE_MAY;
    cudaStream_t s = ready[random_below(static_cast<uint32_t>(ready.size()))];
    std::shared_ptr<operation> op = s->queue.front();
    if (op->host)
        memory_close();
    else if (!op->poll) /* what is polled opens it when it has something to move */
        memory_open();
    if (!op->begun)
        shadow_operation(*op);
    op->begun = true;
    running = op.get();
    bool over = true;
    if (sticky_error == cudaSuccess && op->poll)
        over = op->poll();
    else if (sticky_error == cudaSuccess)
        op->body();
    running = nullptr;
    if (!over)
        return WAITS;
    s->queue.pop_front();
    op->body = nullptr;
    op->poll = nullptr;
    op->after.clear();
    op->done = true;
    return RAN;
}

static void run_until(const std::shared_ptr<operation> &op)
{
    for (int waits = 0; op && !op->done;) {
        outcome o = run_one();
        if (o == NONE_MAY)
            report(nullptr, "an operation waits for itself");
        waits = o == WAITS ? waits + 1 : 0;
        if (waits > 64) { /* for another process */
            struct timespec t = {0, 50000};
            nanosleep(&t, nullptr);
        }
    }
    memory_close();
}

void stream_finish(const std::shared_ptr<operation> &op)
{
    run_until(op);
    if (op)
        merge(host_clock, op->clock);
}

void stream_may_finish()
{
    for (size_t i = random_below(2) ? streams.size() : 0; i-- > 0;)
        run_until(streams[i]->last);
}

void stream_let_run()
{
    while (random_below(2) && run_one() == RAN)
        ;
    memory_close();
}

void stream_hold(cudaStream_t s, const char *why)
{
    stream_of(s)->held = why;
}

/* ---- failures ---- */

/* $MOEKIT_EMULATOR_FAIL: FUNCTION:N:ERROR, separated by commas: the N-th call of a function returns this
 * number. 'kernel' is a function too: the N-th kernel that runs goes wrong, and all later calls return it. */
cudaError_t injected(const char *function)
{
    static std::vector<std::string> counted;
    const char *list = getenv("MOEKIT_EMULATOR_FAIL");
    if (!list)
        return cudaSuccess;
    counted.push_back(function);
    long calls = std::count(counted.begin(), counted.end(), function);
    for (const char *p = list; p; p = strchr(p, ',') ? strchr(p, ',') + 1 : nullptr) {
        size_t n = strlen(function);
        char *end;
        if (!strncmp(p, function, n) && p[n] == ':' && strtol(p + n + 1, &end, 10) == calls && *end == ':')
            return static_cast<cudaError_t>(strtol(end + 1, nullptr, 10));
    }
    return cudaSuccess;
}

static cudaError_t last_error;
cudaError_t keep_error(cudaError_t e)
{
    if (e != cudaSuccess && e != cudaErrorNotReady)
        last_error = e;
    return e;
}
cudaError_t cudaGetLastError()
{
    cudaError_t e = last_error;
    last_error = sticky_error;
    return e;
}
cudaError_t cudaPeekAtLastError()
{
    return last_error;
}

/* ---- streams ---- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags)
{
    BEGIN;
    stream_of(nullptr);
    *s = stream_make(flags & cudaStreamNonBlocking);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(s, flags);
}
cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    BEGIN;
    NOT_IN_CAPTURE;
    stream_finish(stream_of(s)->last);
    return keep_error(sticky_error);
}
cudaError_t cudaStreamQuery(cudaStream_t s)
{
    BEGIN;
    NOT_IN_CAPTURE;
    while (random_below(16) && run_one() == RAN) /* whoever asks for a stream asks often */
        ;
    memory_close();
    return stream_of(s)->queue.empty() ? cudaStreamSynchronize(s) : cudaErrorNotReady;
}
cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    BEGIN;
    NOT_IN_CAPTURE;
    stream_finish(s->last);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize()
{
    BEGIN;
    NOT_IN_CAPTURE;
    for (cudaStream_t s : streams)
        stream_finish(s->last);
    return keep_error(sticky_error);
}
/* A graph waits for nothing outside of it; and one of several streams is none of the emulator's. */
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    BEGIN;
    if (capture_is(s) != e->captured) {
        capture_forbids();
        return keep_error(e->captured ? cudaErrorStreamCaptureUnsupported : cudaErrorStreamCaptureIsolation);
    }
    if (e->captured)
        return cudaSuccess;
    wait_for(stream_of(s), e->record);
    return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void *data)
{
    BEGIN;
    operation op;
    op.name = "cudaLaunchHostFunc()", op.host = true;
    op.body = [f, data] { f(data); };
    stream_queue(s, std::move(op));
    return cudaSuccess;
}

/* ---- events ---- */

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags)
{
    BEGIN;
    *e = new CUevent_st();
    (*e)->timed = !(flags & cudaEventDisableTiming);
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    BEGIN;
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    BEGIN;
    std::shared_ptr<double> time = std::make_shared<double>(0);
    operation op;
    op.name = "cudaEventRecord()";
    op.body = [time] {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        *time = static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
    };
    e->captured = capture_is(s);
    if (e->captured)
        return cudaSuccess;
    e->record = stream_queue(s, std::move(op));
    e->time = time;
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    BEGIN;
    NOT_IN_CAPTURE;
    if (e->captured)
        return keep_error(cudaErrorCapturedEvent);
    stream_finish(e->record);
    return keep_error(sticky_error);
}
cudaError_t cudaEventQuery(cudaEvent_t e)
{
    BEGIN;
    NOT_IN_CAPTURE;
    if (e->captured)
        return keep_error(cudaErrorCapturedEvent);
    stream_let_run();
    return !e->record || e->record->done ? cudaEventSynchronize(e) : cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    BEGIN;
    if (from->captured || to->captured)
        return keep_error(cudaErrorCapturedEvent);
    if (!from->record || !to->record || !from->timed || !to->timed)
        return keep_error(cudaErrorInvalidResourceHandle);
    if (!from->record->done || !to->record->done)
        return keep_error(cudaErrorNotReady);
    *ms = static_cast<float>(1e3 * (*to->time - *from->time));
    return cudaSuccess;
}

/* ---- kernels ---- */

static cudaError_t launchable(dim3 grid, dim3 size, size_t shared)
{
    uint64_t threads = static_cast<uint64_t>(size.x) * size.y * size.z;
    if (!threads || threads > BLOCK_THREADS || size.z > 64 || grid.x > 0x7fffffffu || grid.y > 65535 ||
        grid.z > 65535 || !grid.x || !grid.y || !grid.z)
        return cudaErrorInvalidConfiguration;
    return shared <= SHARED_MOST ? cudaSuccess : cudaErrorInvalidValue;
}

static void load(const void *kernel)
{
    static std::set<const void *> loaded;
    if (loaded.insert(kernel).second)
        stream_may_finish();
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *of, const void *kernel)
{
    BEGIN;
    load(kernel);
    memset(of, 0, sizeof *of);
    return cudaSuccess;
}

/* All blocks, one after the other, in a random order. */
static void run_blocks(const operation &op, dim3 grid, dim3 size, size_t shared, void (*run)(const void *),
                       const void *call)
{
    if (cudaError_t e = injected("kernel")) {
        sticky_error = keep_error(e);
        return;
    }
    uint32_t start = random_below(op.runs), step = random_below(op.runs) | 1;
    while (std::__gcd(step, op.runs) != 1) /* so that each is met once */
        step++;
    block.grid = grid;
    block.size = size;
    for (uint32_t i = 0; i < op.runs; i++) {
        uint32_t b = static_cast<uint32_t>((start + static_cast<uint64_t>(i) * step) % op.runs);
        block.index.x = b % grid.x;
        block.index.y = b / grid.x % grid.y;
        block.index.z = b / grid.x / grid.y;
        block.run = op.first_run + b;
        shared_begin(shared);
        block_run(run, call);
    }
}

cudaError_t emulated_launch(const void *kernel, dim3 grid, dim3 size, size_t shared, cudaStream_t s,
                            void (*run)(const void *), void (*drop)(const void *), const void *call)
{
    std::shared_ptr<const void> held(call, drop);
    BEGIN;
    if (cudaError_t e = launchable(grid, size, shared))
        return keep_error(e);
    load(kernel);
    operation op;
    op.kernel = kernel;
    op.runs = grid.x * grid.y * grid.z;
    op.body = [=] { run_blocks(*running, grid, size, shared, run, held.get()); };
    std::shared_ptr<operation> queued = stream_queue(s, std::move(op));
    const char *blocking = getenv("CUDA_LAUNCH_BLOCKING");
    if (blocking && *blocking == '1')
        stream_finish(queued);
    return keep_error(sticky_error);
}

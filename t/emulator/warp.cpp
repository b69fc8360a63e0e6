/* SPDX-License-Identifier: MIT */
/* What the lanes of a warp do together, atomics, and cp.async. */
#include "emulator.h"

#include <cuda_bf16.h>
#include <string.h>

#include "device.h"
#undef __syncthreads

#define HERE __builtin_return_address(0)
#define LANES(l, mask)                                                                                         \
    for (uint32_t l = 0; l < 32; l++)                                                                          \
        if ((mask) >> (l)&1)

static fiber *warp_of(const fiber *f)
{
    return &block.fibers[f->number / 32 * 32];
}

/* The lanes that have to make the same call as `f`: those of its mask that have not left; 0 as long as one of
 * them has not. */
static unsigned met(const fiber *f)
{
    const fiber *lanes = warp_of(f);
    const warp_call &call = f->call;
    const uint32_t warp = f->number / 32;
    unsigned wanted = 0, here = 0;
    if (f->state != FIBER_AT_WARP &&
        block.waiting[warp] + block.gone[warp] + 1 < static_cast<uint32_t>(__builtin_popcount(call.mask)))
        return 0; /* most lanes come before the last one */
    LANES(l, call.mask)
    {
        const fiber &o = lanes[l];
        if (&o >= block.fibers + block.threads || o.state == FIBER_GONE)
            continue;
        wanted |= 1u << l;
        bool same = o.call.combine == call.combine && o.call.kind == call.kind && o.call.mask == call.mask;
        here |= static_cast<unsigned>(&o == f || (o.state == FIBER_AT_WARP && same)) << l;
    }
    return here == wanted ? wanted : 0;
}

static void meet(unsigned mask)
{
    fiber *lanes = warp_of(now);
    now->call.combine(lanes, mask);
    LANES(l, mask)
    {
        block.waiting[now->number / 32] -= lanes[l].state == FIBER_AT_WARP;
        lanes[l].state = FIBER_READY;
    }
}

void warp_meet(const warp_call &call)
{
    if (!(call.mask >> now->number % 32 & 1))
        report(call.pc, "absent lane: %s with mask 0x%x by lane %u, which is not in it", call.name, call.mask,
               now->number % 32);
    now->call = call;
    if (unsigned mask = met(now))
        meet(mask);
    else {
        block.waiting[now->number / 32]++;
        fiber_wait(FIBER_AT_WARP);
    }
}

void warp_left()
{
    fiber *gone = now, *lanes = warp_of(gone);
    block.gone[gone->number / 32]++;
    for (uint32_t l = 0; l < 32 && block.waiting[gone->number / 32]; l++)
        if (lanes[l].state == FIBER_AT_WARP && &lanes[l] < block.fibers + block.threads) {
            now = &lanes[l];
            if (unsigned mask = met(now))
                meet(mask);
        }
    now = gone;
}

/* ---- barriers and fences ---- */

/* After it each lane knows what any of them knew. */
static void join(fiber *lanes, unsigned mask)
{
    uint32_t all[32] = {};
    block.time++;
    LANES(l, mask)
    for (uint32_t j = 0; j < 32; j++)
        if (all[j] < block.known[lanes[l].number][j])
            all[j] = block.known[lanes[l].number][j];
    LANES(l, mask)
    all[l] = block.time;
    LANES(l, mask)
    memcpy(block.known[lanes[l].number], all, sizeof all);
}

void __syncwarp(unsigned mask)
{
    warp_call call = {};
    call.name = "__syncwarp()", call.mask = mask, call.combine = join, call.pc = HERE;
    warp_meet(call);
}

void __threadfence()
{
    now->fenced = true;
}
void __threadfence_block()
{
}
void __threadfence_system()
{
    __threadfence();
}

/* ---- shuffles and votes ---- */

/* The lane that `lane` reads, or -1 for its own value. Lanes are cut into segments of `width`. */
static int source_lane(const warp_call &c, int lane)
{
    int first = lane / c.width * c.width, last = first + c.width - 1, from = lane;
    switch (c.kind) {
    case SHUFFLE_INDEX:
        return first + (c.by & (c.width - 1));
    case SHUFFLE_UP:
        from = lane - c.by;
        break;
    case SHUFFLE_DOWN:
        from = lane + c.by;
        break;
    case SHUFFLE_XOR:
        from = lane ^ c.by;
        return from > last ? -1 : from;
    }
    return from < first || from > last ? -1 : from;
}

static void shuffle(fiber *lanes, unsigned mask)
{
    LANES(l, mask)
    {
        const warp_call &c = lanes[l].call;
        int from = source_lane(c, static_cast<int>(l));
        if (from < 0)
            from = static_cast<int>(l);
        if (!(mask >> from & 1)) {
            now = &lanes[l];
            report(c.pc, "absent lane: %s reads lane %d, which is not there or not in the mask 0x%x", c.name,
                   from, c.mask);
        }
        memcpy(c.out, lanes[from].call.in, sizeof(uint64_t));
    }
}

uint64_t emulated_shuffle(emulated_shuffle_kind kind, unsigned mask, uint64_t bits, int by, int width)
{
    static const char *const names[] = {"__shfl_sync()", "__shfl_up_sync()", "__shfl_down_sync()",
                                        "__shfl_xor_sync()"};
    uint64_t out = 0;
    warp_call call = {};
    call.name = names[kind], call.kind = kind, call.mask = mask, call.combine = shuffle, call.pc = HERE;
    call.in = &bits, call.out = &out, call.by = by, call.width = width;
    if (width <= 0 || width > 32 || (width & (width - 1)))
        report(HERE, "%s with width %d, which is not a power of two up to 32", call.name, width);
    warp_meet(call);
    return out;
}

static void vote(fiber *lanes, unsigned mask)
{
    unsigned ballot = 0;
    LANES(l, mask)
    ballot |= static_cast<unsigned>(lanes[l].call.by != 0) << l;
    LANES(l, mask)
    memcpy(lanes[l].call.out, &ballot, sizeof ballot);
}

unsigned __ballot_sync(unsigned mask, int yes)
{
    unsigned out = 0;
    warp_call call = {};
    call.name = "a vote", call.mask = mask, call.combine = vote, call.pc = HERE;
    call.out = &out, call.by = yes;
    warp_meet(call);
    return out;
}

/* ---- matrices; the layouts are those of kernels/cuda/ptx.h ---- */

static float half_of(uint32_t r, uint32_t i)
{
    return emulated_bits<float>((i ? r >> 16 : r & 0xffff) << 16);
}

static void need_all(unsigned mask)
{
    if (mask != 0xffffffffu)
        report(now->call.pc, "absent lane: %s needs all 32 lanes, and has 0x%x", now->call.name, mask);
}

static void multiply(fiber *lanes, unsigned mask)
{
    need_all(mask);
    float a[16][16], b[16][8], d[16][8];
    for (uint32_t l = 0; l < 32; l++) {
        const uint32_t g = l / 4, t = l % 4;
        const uint32_t *ra = static_cast<const uint32_t *>(lanes[l].call.in);
        const uint32_t *rb = static_cast<const uint32_t *>(lanes[l].call.more);
        for (uint32_t r = 0; r < 4; r++)
            for (uint32_t i = 0; i < 2; i++)
                a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + i] = half_of(ra[r], i);
        for (uint32_t r = 0; r < 2; r++)
            for (uint32_t i = 0; i < 2; i++)
                b[2 * t + 8 * r + i][g] = half_of(rb[r], i);
        for (uint32_t i = 0; i < 4; i++)
            d[g + 8 * (i / 2)][2 * t + i % 2] = static_cast<float *>(lanes[l].call.out)[i];
    }
    for (int m = 0; m < 16; m++)
        for (int k = 0; k < 16; k++)
            for (int n = 0; n < 8; n++)
                d[m][n] += a[m][k] * b[k][n];
    for (uint32_t l = 0; l < 32; l++)
        for (uint32_t i = 0; i < 4; i++)
            static_cast<float *>(lanes[l].call.out)[i] = d[l / 4 + 8 * (i / 2)][2 * (l % 4) + i % 2];
}

void emulated_mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    warp_call call = {};
    call.name = "mma_bf16()", call.mask = 0xffffffffu, call.combine = multiply, call.pc = HERE;
    call.in = a, call.more = b, call.out = d;
    warp_meet(call);
}

static void load_matrices(fiber *lanes, unsigned mask)
{
    need_all(mask);
    uint16_t m[4][8][8];
    uint32_t matrices = static_cast<uint32_t>(lanes[0].call.by);
    fiber *last = now;
    for (uint32_t l = 0; l < 8 * matrices; l++) {
        const void *row = lanes[l].call.in;
        now = &lanes[l]; /* each lane reads its own row */
        if (!in_shared(row))
            report(now->call.pc, "ldmatrix of %s, which is not shared memory", memory_name(row).c_str());
        if (reinterpret_cast<uintptr_t>(row) % 16)
            report(now->call.pc, "misaligned: ldmatrix of %s", memory_name(row).c_str());
        shadow_access(row, 16, ACCESS_READ, now->call.pc);
        memcpy(m[l / 8][l % 8], row, 16);
    }
    now = last;
    for (uint32_t l = 0; l < 32; l++)
        for (uint32_t r = 0; r < matrices; r++) {
            const uint32_t g = l / 4, t = l % 4;
            bool trans = lanes[l].call.width;
            uint32_t low = trans ? m[r][2 * t][g] : m[r][g][2 * t];
            uint32_t high = trans ? m[r][2 * t + 1][g] : m[r][g][2 * t + 1];
            static_cast<uint32_t *>(lanes[l].call.out)[r] = low | high << 16;
        }
}

void emulated_ldmatrix(uint32_t *r, const void *row, int matrices, bool trans)
{
    warp_call call = {};
    call.name = "ldmatrix()", call.mask = 0xffffffffu, call.combine = load_matrices, call.pc = HERE;
    call.in = row, call.out = r, call.by = matrices, call.width = trans, call.kind = 2 * matrices + trans;
    warp_meet(call);
}

/* ---- cp.async: copies when it is waited for ---- */

void emulated_cp_async(void *shared, const void *global, int bytes)
{
    if (bytes < 0 || bytes > 16)
        report(HERE, "cp.async of %d bytes", bytes);
    if (!in_shared(shared) || (bytes && (!in_memory(global) || in_shared(global))))
        report(HERE, "cp.async from %s to %s: it goes from device to shared memory",
               memory_name(global).c_str(), memory_name(shared).c_str());
    if ((reinterpret_cast<uintptr_t>(shared) | (bytes ? reinterpret_cast<uintptr_t>(global) : 0)) % 16)
        report(HERE, "misaligned: cp.async from %s to %s", memory_name(global).c_str(),
               memory_name(shared).c_str());
    /* It may read and write from now on. */
    if (bytes)
        shadow_access(global, static_cast<size_t>(bytes), ACCESS_READ, HERE);
    shadow_access(shared, 16, ACCESS_BEGIN_COPY, HERE);
    now->copies.push_back({shared, global, bytes, now->groups});
}

void emulated_cp_async_commit()
{
    now->groups++;
}

void emulated_cp_async_wait(int groups)
{
    size_t n = 0;
    for (; n < now->copies.size() && now->copies[n].group < now->groups - groups; n++) {
        const async_copy &c = now->copies[n];
        if (c.bytes) {
            shadow_access(c.global, static_cast<size_t>(c.bytes), ACCESS_READ, HERE);
            memcpy(c.shared, c.global, static_cast<size_t>(c.bytes));
        }
        shadow_access(c.shared, 16, ACCESS_WRITE, HERE);
        memset(static_cast<char *>(c.shared) + c.bytes, 0, static_cast<size_t>(16 - c.bytes));
    }
    now->copies.erase(now->copies.begin(), now->copies.begin() + static_cast<ptrdiff_t>(n));
}

/* ---- atomics ---- */

/* Changes *p; what it was. Between blocks it orders only together with a fence, by whoever changes *p next. */
template <class T, class F> static T atomic(T *p, F change, const void *pc)
{
    if (!in_memory(p) || reinterpret_cast<uintptr_t>(p) % sizeof(T))
        report(pc, "an atomic at %s", memory_name(p).c_str());
    shadow_access(p, sizeof *p, ACCESS_ATOMIC, pc);
    if (now->fenced)
        shadow_fence_atomic(p);
    T old = *p;
    *p = change(old);
    return old;
}

int atomicAdd(int *p, int v)
{
    return atomic(
        p, [v](int old) { return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(v)); },
        HERE);
}
unsigned atomicAdd(unsigned *p, unsigned v)
{
    return atomic(
        p, [v](unsigned old) { return old + v; }, HERE);
}
unsigned long long atomicAdd(unsigned long long *p, unsigned long long v)
{
    return atomic(
        p, [v](unsigned long long old) { return old + v; }, HERE);
}
int atomicMax(int *p, int v)
{
    return atomic(
        p, [v](int old) { return old < v ? v : old; }, HERE);
}

/* SPDX-License-Identifier: MIT */
/* The race checker: an access must come after every access to the same bytes that it conflicts with (happens
 * before, Lamport 1978; the last write and the readers since, as FastTrack keeps them, Flanagan and Freund
 * 2009).
 *
 * Who touches memory is a run: a block of a kernel, or a copy, memset or product as a whole. Runs are numbered
 * in the order in which they are run. Two accesses are ordered
 *   in operations of their own   if the later operation's vector clock has the earlier one (stream.cpp)
 *   in two blocks of one kernel  never, unless the later block has taken an atomic that the earlier one let go
 *   in one block                 if the thread is the same, or a __syncthreads() lies between, or they are of one
 *                                warp and __syncwarp()s of common lanes lie between. Shuffles, ballots and mma
 *                                order nothing.
 * In a block time counts barriers; an access is stamped with it, and known[t][u] is the time before which
 * thread t comes after thread u. Bytes are watched in pairs: kernels here store no single bytes. */
#include "emulator.h"

#include <algorithm>
#include <map>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The last write of two bytes, and the reads since. Of readers that no single one can stand for only what a
 * later write must know is kept: their lanes, or that they are of several warps or blocks. */
enum spread { ONE_WARP, WARPS, BLOCKS };
struct cell {
    uint32_t write_run, write_time;
    uint16_t writer;      /* thread */
    uint8_t write_atomic; /* by atomics, since the last ordered access, of threads as far spread as */
    uint8_t write_spread;
    uint32_t read_run; /* 0: none. From SETS on: read by several operations that no one comes after */
    uint32_t read_time, lanes;
    uint16_t read_warp;
    uint8_t read_spread;
    uint8_t pending; /* a cp.async that has not been waited for will write here */
};
constexpr uint32_t SETS = 1u << 31;

/* What has run: first run of each operation, ascending. */
struct past {
    uint32_t first_run, stream, count;
    std::string name;
    const void *kernel;
};

static_assert(sizeof(cell) == 28, "a page of memory has whole pages of cells: see shadow_forget()");
static cell *cells;
static bool off; /* $MOEKIT_EMULATOR_CHECK=0: bounds alone */
static std::vector<past> done;
static uint32_t next_run = 1;
static std::vector<std::vector<uint32_t>> sets; /* of indices in `done` */

/* What blocks of the running kernel let go by an atomic, and what the running block has taken so. */
struct release {
    uint32_t run, barrier, time, thread;
};
static std::map<const void *, std::vector<release>> released;
static std::vector<release> acquired;
static uint32_t acquired_run;

void shadow_operation(operation &op)
{
    if (!cells) {
        const char *check = getenv("MOEKIT_EMULATOR_CHECK");
        off = check && !strcmp(check, "0");
        cells = static_cast<cell *>(mmap(nullptr, MEMORY_SPAN / 2 * sizeof(cell), PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        if (cells == MAP_FAILED)
            report(nullptr, "cannot reserve %zu bytes of addresses", MEMORY_SPAN / 2 * sizeof(cell));
        madvise(cells, MEMORY_SPAN / 2 * sizeof(cell), MADV_DONTDUMP);
    }
    op.first_run = next_run;
    if (SETS - next_run <= op.runs)
        report(nullptr, "more blocks than the checker can count");
    next_run += op.runs;
    done.push_back({op.first_run, op.stream, op.clock[op.stream], op.kernel ? "" : op.name, op.kernel});
    released.clear();
    acquired_run = 0;
}

void shadow_forget(const void *pages, size_t bytes)
{
    if (cells)
        madvise(cells + (static_cast<const char *>(pages) - memory_base) / 2, bytes / 2 * sizeof(cell),
                MADV_DONTNEED);
}

/* ---- between operations ---- */

static uint32_t done_index(uint32_t run)
{
    static uint32_t last; /* most accesses meet the operation that the access before met */
    if (last < done.size() && done[last].first_run <= run &&
        (last + 1 == done.size() || run < done[last + 1].first_run))
        return last;
    auto after = std::upper_bound(done.begin(), done.end(), run,
                                  [](uint32_t r, const past &p) { return r < p.first_run; });
    return last = static_cast<uint32_t>(after - done.begin()) - 1;
}

static bool of_running(uint32_t run)
{
    return run >= running->first_run && run < SETS;
}

static bool index_ordered(uint32_t index)
{
    const past &p = done[index];
    return p.stream < running->clock.size() && running->clock[p.stream] >= p.count;
}

/* Whether what reads as `run` (an operation, or a set of them) comes before the running operation. */
static bool run_ordered(uint32_t run)
{
    if (run < SETS)
        return index_ordered(done_index(run));
    for (uint32_t index : sets[run - SETS])
        if (!index_ordered(index))
            return false;
    return true;
}

/* The run that stands for the readers of `run` that are not ordered, and the running operation. */
static uint32_t readers_together(uint32_t run)
{
    std::vector<uint32_t> together;
    if (run < SETS)
        together = {done_index(run)};
    else
        for (uint32_t index : sets[run - SETS])
            if (!index_ordered(index))
                together.push_back(index);
    uint32_t me = static_cast<uint32_t>(done.size()) - 1;
    if (std::find(together.begin(), together.end(), me) == together.end())
        together.push_back(me);
    for (size_t i = sets.size(); i-- > 0;)
        if (sets[i] == together)
            return SETS + static_cast<uint32_t>(i);
    sets.push_back(together);
    return SETS + static_cast<uint32_t>(sets.size() - 1);
}

/* ---- within an operation ---- */

/* Access of the running block: run, thread (0 for a copy or a product), stamp. */
struct self {
    uint32_t run, thread, warp, lane, time;
};
static self who()
{
    if (!now)
        return {running->first_run, 0, 0, 0, 0};
    return {block.run, now->number, now->number / 32, now->number % 32, block.time};
}

/* What thread `lane` of warp `warp` did in the running block at `time` is before the running thread. */
static bool before(const self &me, uint32_t warp, uint32_t lane, uint32_t time)
{
    return time < block.barrier ||
           (warp == me.warp && (lane == me.lane || time < block.known[me.thread][lane]));
}

static bool block_acquired(const self &me, uint32_t run, uint32_t thread, uint32_t time)
{
    if (acquired_run == me.run)
        for (const release &r : acquired)
            if (r.run == run && (time < r.barrier || (thread == r.thread && time <= r.time)))
                return true;
    return false;
}

static bool write_before(const self &me, const cell &c)
{
    if (!of_running(c.write_run))
        return run_ordered(c.write_run);
    if (c.write_run != me.run)
        return c.write_spread != BLOCKS && block_acquired(me, c.write_run, c.writer, c.write_time);
    if (!now)
        return true;
    if (c.write_spread != ONE_WARP)
        return c.write_spread == WARPS && c.write_time < block.barrier;
    return before(me, c.writer / 32u, c.writer % 32u, c.write_time);
}

/* Whether all readers are before the running thread. */
static bool reads_before(const self &me, const cell &c)
{
    if (!of_running(c.read_run))
        return run_ordered(c.read_run);
    if (c.read_spread == BLOCKS)
        return false;
    if (c.read_run != me.run)
        return block_acquired(me, c.read_run, BLOCK_THREADS, c.read_time);
    if (!now || c.read_time < block.barrier)
        return true;
    if (c.read_spread == WARPS || c.read_warp != me.warp)
        return false;
    for (uint32_t lane = 0; lane < 32; lane++)
        if (c.lanes >> lane & 1 && !before(me, me.warp, lane, c.read_time))
            return false;
    return true;
}

/* ---- reports ---- */

static std::string party(uint32_t run, uint32_t thread, bool exact)
{
    if (run >= SETS)
        return "several operations";
    const past &p = done[done_index(run)];
    if (!of_running(run))
        return p.kernel ? "kernel '" + function_name(p.kernel) + "'" : p.name;
    if (!now)
        return "itself";
    if (run != block.run)
        return "another block of the kernel";
    return exact ? "thread " + std::to_string(thread) + " of the block" : "several threads of the block";
}

[[noreturn]] static void race(const void *p, const void *pc, const char *verb, const char *other_verb,
                              const std::string &other)
{
    report(pc, "race: %s %s, which %s %s, and nothing orders the two", verb, memory_name(p).c_str(),
           other.c_str(), other_verb);
}

static void check_write(const self &me, const cell &c, const void *p, const void *pc, access how)
{
    bool mine = c.write_run == me.run && c.writer == me.thread;
    if (c.pending && (!mine || how == ACCESS_READ))
        report(pc, "race: %s %s, to which %s copies by a cp.async that it has not waited for",
               how == ACCESS_READ ? "reads" : "writes", memory_name(p).c_str(),
               party(c.write_run, c.writer, true).c_str());
    if (!c.write_run || (how == ACCESS_ATOMIC && c.write_atomic && of_running(c.write_run)))
        return;
    if (!write_before(me, c))
        race(p, pc, how == ACCESS_READ ? "reads" : "writes", c.write_atomic ? "changed by an atomic" : "wrote",
             party(c.write_run, c.writer, c.write_spread == ONE_WARP));
}

static void check_reads(const self &me, const cell &c, const void *p, const void *pc)
{
    if (c.read_run && !reads_before(me, c))
        race(p, pc, "writes", "read",
             party(c.read_run, c.read_warp * 32u + static_cast<uint32_t>(__builtin_ctz(c.lanes | 1u << 31)),
                   c.read_spread == ONE_WARP && (c.lanes & (c.lanes - 1)) == 0));
}

/* ---- what is kept ---- */

static void note_read(const self &me, cell &c)
{
    uint32_t lane = 1u << me.lane;
    if (c.read_run == me.run && c.read_spread == ONE_WARP && c.read_warp == me.warp && c.read_time == me.time) {
        c.lanes |= lane;
    } else if (!c.read_run || reads_before(me, c)) { /* all before: this one stands for them */
        c.read_run = me.run, c.read_spread = ONE_WARP;
        c.read_warp = static_cast<uint16_t>(me.warp), c.lanes = lane, c.read_time = me.time;
    } else if (!of_running(c.read_run)) {
        c.read_run = readers_together(c.read_run);
    } else if (c.read_run != me.run) {
        c.read_run = me.run, c.read_spread = BLOCKS, c.read_time = me.time;
    } else {
        c.read_time = me.time;
        if (c.read_spread == ONE_WARP && c.read_warp != me.warp)
            c.read_spread = WARPS;
        c.lanes |= lane;
    }
}

/* Whether the thread has read this since it was written, and nothing has happened to it meanwhile. */
static bool read_again(const self &me, const cell &c)
{
    return c.read_run == me.run && c.read_spread == ONE_WARP && c.read_warp == me.warp &&
           c.read_time == me.time && c.lanes >> me.lane & 1;
}

static void note_write(const self &me, cell &c, access how)
{
    bool joins = how == ACCESS_ATOMIC && c.write_atomic && of_running(c.write_run) && !write_before(me, c);
    spread s = ONE_WARP;
    if (joins)
        s = c.write_run != me.run || c.write_spread == BLOCKS ? BLOCKS : WARPS;
    c.write_spread = s;
    c.write_atomic = how == ACCESS_ATOMIC;
    c.write_run = me.run, c.writer = static_cast<uint16_t>(me.thread), c.write_time = me.time;
    c.pending = how == ACCESS_BEGIN_COPY;
    c.read_run = 0;
}

void shadow_access(const void *p, size_t bytes, access how, const void *pc)
{
    if (!memory_inside(p, bytes))
        report(pc, "%s outside: %zu bytes at %s", how == ACCESS_READ ? "reads" : "writes", bytes,
               memory_name(p).c_str());
    if (off)
        return;
    const self me = who();
    size_t first = static_cast<size_t>(static_cast<const char *>(p) - memory_base);
    bool shared = in_shared(p);
    for (size_t i = first / 2; i < (first + bytes + 1) / 2; i++) {
        cell &c = cells[i];
        if (shared && c.write_run != me.run) /* what is left of a block before */
            c.write_run = 0, c.pending = 0;
        if (shared && c.read_run != me.run)
            c.read_run = 0;
        if (how == ACCESS_READ && read_again(me, c))
            continue;
        const void *at = memory_base + 2 * i;
        check_write(me, c, at, pc, how);
        if (how == ACCESS_READ) {
            note_read(me, c);
        } else {
            check_reads(me, c, at, pc);
            note_write(me, c, how);
        }
    }
}

void shadow_fence_atomic(const void *p)
{
    const self me = who();
    if (acquired_run != me.run)
        acquired.clear();
    acquired_run = me.run;
    std::vector<release> &there = released[p];
    acquired.insert(acquired.end(), there.begin(), there.end());
    there.push_back({me.run, block.barrier, me.time, me.thread});
}

/* SPDX-License-Identifier: MIT */
/* Two ranks that have something to do with each other in an operation first tell each other what: nothing is
 * sent ahead, and what does not fit is found. Then the bytes go through a ring each way. */
#include "lanes.h"
#include "emulator.h"

#include <algorithm>
#include <atomic>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

constexpr size_t RING = 64 << 10;
constexpr int SIZES = 6; /* messages of a peer in an operation whose sizes are told */

struct hello {
    char what[24];
    uint32_t captured;
    uint32_t sends, recvs; /* messages */
    uint64_t send_bytes[SIZES], recv_bytes[SIZES];
};

/* From one rank to another. */
struct lane {
    std::atomic<uint32_t> said, heard; /* turns that the one has told of, and the other has read */
    std::atomic<uint64_t> written, read;
    hello of; /* the latest turn */
    char ring[RING];
};

struct seat {
    std::atomic<uint32_t> round, made_round; /* that the rest is of; made: of its first member */
    int32_t color, key;
    char name[24];
    place made;
};

/* Made of zeros. A rank that begins a round has seen all begin the one before: two seats are enough. */
struct shared {
    std::atomic<uint32_t> joined;
};

static seat &seat_of(const lanes &l, int rank, uint32_t round)
{
    char *after = reinterpret_cast<char *>(l.memory) + 64;
    return reinterpret_cast<seat *>(after)[2 * rank + static_cast<int>(round % 2)];
}

static lane &lane_between(const lanes &l, int from, int to)
{
    char *after = reinterpret_cast<char *>(&seat_of(l, l.ranks, 0));
    return reinterpret_cast<lane *>(after)[from * l.ranks + to];
}

/* ---- memory ---- */

place lanes_make()
{
    int fd = memfd_create("lanes", MFD_CLOEXEC);
    if (fd < 0)
        report(nullptr, "cannot make memory to share");
    return {static_cast<int32_t>(getpid()), fd};
}

std::shared_ptr<lanes> lanes_open(const place &at, int ranks, int rank, const std::string &name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", at.pid, at.fd);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return nullptr;
    size_t n = static_cast<size_t>(ranks), bytes = 64 + 2 * n * sizeof(seat) + n * n * sizeof(lane);
    void *p = ftruncate(fd, static_cast<off_t>(bytes))
                  ? MAP_FAILED
                  : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        report(nullptr, "cannot share %zu bytes of memory", bytes);
    auto l = std::make_shared<lanes>();
    l->name = name;
    l->rank = rank;
    l->ranks = ranks;
    l->memory = static_cast<shared *>(p);
    l->bytes = bytes;
    l->turns.resize(n);
    l->memory->joined++;
    return l;
}

bool lanes_joined(const lanes &l)
{
    return l.memory->joined >= static_cast<uint32_t>(l.ranks);
}

lanes::~lanes()
{
    munmap(memory, bytes);
}

/* ---- splitting ---- */

division division_begin(const std::shared_ptr<lanes> &from, int color, int key, const std::string &name)
{
    division d = {from, nullptr, ++from->rounds, color, key, name};
    seat &mine = seat_of(*from, from->rank, d.round);
    mine.color = color;
    mine.key = key;
    snprintf(mine.name, sizeof mine.name, "%s", name.c_str());
    mine.round = d.round;
    return d;
}

/* The ranks of this one's color, in the order of their keys; empty while someone has not come. */
static std::vector<int> members(const division &d)
{
    std::vector<int> list;
    for (int r = 0; r < d.from->ranks; r++) {
        const seat &s = seat_of(*d.from, r, d.round);
        if (s.round != d.round)
            return {};
        if (s.color != d.color)
            continue;
        list.push_back(r);
        if (d.color >= 0 && d.name != s.name)
            report(nullptr, "ncclCommSplit() number %u of '%s': it makes '%s' at rank %d, and '%s' at rank %d",
                   d.round, d.from->name.c_str(), d.name.c_str(), d.from->rank, s.name, r);
    }
    std::stable_sort(list.begin(), list.end(), [&d](int a, int b) {
        return seat_of(*d.from, a, d.round).key < seat_of(*d.from, b, d.round).key;
    });
    return list;
}

bool division_done(division &d)
{
    if (d.made)
        return lanes_joined(*d.made);
    std::vector<int> list = members(d);
    if (list.empty() || d.color < 0)
        return !list.empty();
    seat &first = seat_of(*d.from, list[0], d.round);
    if (list[0] == d.from->rank && first.made_round != d.round) {
        first.made = lanes_make();
        first.made_round = d.round;
    }
    if (first.made_round != d.round)
        return false;
    auto me = std::find(list.begin(), list.end(), d.from->rank) - list.begin();
    d.made = lanes_open(first.made, static_cast<int>(list.size()), static_cast<int>(me), d.name);
    if (!d.made)
        report(nullptr, "rank %d, first of '%s', is gone", list[0], d.name.c_str());
    return lanes_joined(*d.made);
}

/* ---- operations ---- */

static meeting &meeting_with(transfer &t, int peer)
{
    for (meeting &m : t.meetings)
        if (m.peer == peer)
            return m;
    t.meetings.push_back({peer, t.l->turns[static_cast<size_t>(peer)]++, {}, {}, false, false, 0, 0});
    return t.meetings.back();
}

transfer transfer_make(const std::shared_ptr<lanes> &l, const std::string &what, uint32_t captured,
                       const std::vector<message> &sends, const std::vector<message> &recvs)
{
    transfer t = {l, what, captured, {}, false};
    for (const message &m : sends)
        meeting_with(t, m.peer).sends.push_back(m);
    for (const message &m : recvs)
        meeting_with(t, m.peer).recvs.push_back(m);
    return t;
}

static void tell(const transfer &t, const meeting &m)
{
    lane &out = lane_between(*t.l, t.l->rank, m.peer);
    hello h = {};
    snprintf(h.what, sizeof h.what, "%s", t.what.c_str());
    h.captured = t.captured;
    h.sends = static_cast<uint32_t>(m.sends.size());
    h.recvs = static_cast<uint32_t>(m.recvs.size());
    for (size_t i = 0; i < SIZES; i++) {
        h.send_bytes[i] = i < m.sends.size() ? m.sends[i].bytes : 0;
        h.recv_bytes[i] = i < m.recvs.size() ? m.recvs[i].bytes : 0;
    }
    out.of = h;
    out.said = m.turn + 1;
}

/* What one of the two sends must be what the other receives. */
static void compare_sizes(const transfer &t, const meeting &m, const std::vector<message> &mine, uint32_t count,
                          const uint64_t *bytes, bool sends)
{
    const char *here = sends ? "sent" : "received", *there = sends ? "received" : "sent";
    if (mine.size() != count)
        report(nullptr, "operation %u of rank %d with rank %d: %zu messages are %s here, and %u %s there",
               m.turn + 1, t.l->rank, m.peer, mine.size(), here, count, there);
    for (size_t i = 0; i < mine.size() && i < SIZES; i++)
        if (mine[i].bytes != bytes[i])
            report(nullptr, "operation %u of rank %d with rank %d: %zu bytes are %s here, and %zu %s there",
                   m.turn + 1, t.l->rank, m.peer, mine[i].bytes, here, static_cast<size_t>(bytes[i]), there);
}

static void compare(const transfer &t, const meeting &m, const hello &theirs)
{
    if (t.what != theirs.what)
        report(nullptr, "operation %u of rank %d with rank %d is %s here, and %s there", m.turn + 1, t.l->rank,
               m.peer, t.what.c_str(), theirs.what);
    if (t.captured != theirs.captured) /* a capture, and a graph's launch, is collective */
        report(nullptr, "operation %u of rank %d with rank %d is captured operation %u here, and %u there",
               m.turn + 1, t.l->rank, m.peer, t.captured, theirs.captured);
    compare_sizes(t, m, m.sends, theirs.recvs, theirs.recv_bytes, true);
    compare_sizes(t, m, m.recvs, theirs.sends, theirs.send_bytes, false);
}

/* Between byte `at` of the messages, as if they were one, and the ring, as many as may. */
static size_t copy_some(const std::vector<message> &list, size_t at, lane &ring, bool out)
{
    size_t moved = 0, begin = 0;
    for (const message &m : list) {
        while (at + moved >= begin && at + moved < begin + m.bytes) {
            uint64_t w = ring.written, r = ring.read;
            size_t place = static_cast<size_t>((out ? w : r) % RING), skip = at + moved - begin;
            size_t n =
                std::min({static_cast<size_t>(out ? RING - (w - r) : w - r), RING - place, m.bytes - skip});
            if (n == 0)
                return moved;
            memory_open();
            memcpy(out ? ring.ring + place : m.p + skip, out ? m.p + skip : ring.ring + place, n);
            (out ? ring.written : ring.read) += n;
            moved += n;
        }
        begin += m.bytes;
    }
    return moved;
}

static size_t bytes_of(const std::vector<message> &list)
{
    size_t bytes = 0;
    for (const message &m : list)
        bytes += m.bytes;
    return bytes;
}

static bool move_on(const transfer &t, meeting &m)
{
    lane &out = lane_between(*t.l, t.l->rank, m.peer), &in = lane_between(*t.l, m.peer, t.l->rank);
    if (!m.said)
        tell(t, m);
    m.said = true;
    if (!m.met && in.said != m.turn + 1)
        return false;
    if (!m.met) {
        compare(t, m, in.of);
        in.heard = m.turn + 1;
        m.met = true;
    }
    m.sent += copy_some(m.sends, m.sent, out, true);
    m.received += copy_some(m.recvs, m.received, in, false);
    return m.sent == bytes_of(m.sends) && m.received == bytes_of(m.recvs) && out.written == out.read &&
           out.heard == m.turn + 1;
}

/* To oneself: the messages in order. */
static void copy_own(const transfer &t, meeting &m)
{
    if (m.sends.size() != m.recvs.size())
        report(nullptr, "rank %d of '%s' sends itself %zu messages, and receives %zu", t.l->rank,
               t.l->name.c_str(), m.sends.size(), m.recvs.size());
    memory_open();
    for (size_t i = 0; i < m.sends.size() && !m.met; i++)
        memmove(m.recvs[i].p, m.sends[i].p, std::min(m.sends[i].bytes, m.recvs[i].bytes));
    m.met = true;
}

bool transfer_move(transfer &t)
{
    bool done = true;
    for (const meeting &m : t.meetings) {
        for (size_t i = 0; i < m.sends.size() && !t.begun; i++)
            shadow_access(m.sends[i].p, m.sends[i].bytes, ACCESS_READ, nullptr);
        for (size_t i = 0; i < m.recvs.size() && !t.begun; i++)
            shadow_access(m.recvs[i].p, m.recvs[i].bytes, ACCESS_WRITE, nullptr);
    }
    t.begun = true;
    for (meeting &m : t.meetings) {
        if (m.peer == t.l->rank)
            copy_own(t, m);
        else
            done = move_on(t, m) && done;
    }
    return done;
}

/* SPDX-License-Identifier: MIT */
/* What the ranks of a communicator of NCCL share: memory of their processes, in which each has a seat, and a
 * lane to each other. nccl.cpp has NCCL's functions. Nothing here blocks: what waits for another process is
 * asked again. */
#ifndef EMULATOR_LANES_H
#define EMULATOR_LANES_H

#include <memory>
#include <stddef.h>
#include <stdint.h>
#include <string>
#include <vector>

/* Where a process has such memory, for others: what a ncclUniqueId holds. */
struct place {
    int32_t pid, fd;
};

struct lanes {
    std::string name; /* of the communicator, for reports */
    int rank, ranks;
    struct shared *memory;
    size_t bytes;
    uint32_t rounds;             /* of splitting that have begun */
    std::vector<uint32_t> turns; /* operations with each other rank so far */
    ~lanes();
};

place lanes_make(); /* of this process; it stays until the process ends */
/* This rank's view of it; NULL if there is no such place. All say the same number of ranks. */
std::shared_ptr<lanes> lanes_open(const place &at, int ranks, int rank, const std::string &name);
bool lanes_joined(const lanes &l); /* everyone has opened it */

/* ---- splitting ---- */

/* This rank's part in the next round, all ranks in one order. */
struct division {
    std::shared_ptr<lanes> from, made; /* made: NULL until it is there, or for no color */
    uint32_t round;
    int color, key; /* color < 0: none */
    std::string name;
};
division division_begin(const std::shared_ptr<lanes> &from, int color, int key, const std::string &name);
bool division_done(division &d);

/* ---- operations ---- */

struct message {
    int peer;
    char *p;
    size_t bytes;
};

/* What one rank does with one other in an operation. */
struct meeting {
    int peer;
    uint32_t turn; /* its number among the operations of the two */
    std::vector<message> sends, recvs;
    bool said, met;
    size_t sent, received; /* bytes */
};
struct transfer {
    std::shared_ptr<lanes> l;
    std::string what;  /* "ncclAllGather()" */
    uint32_t captured; /* of a graph: which of the communicator's captured operations, from 1; 0: of none */
    std::vector<meeting> meetings;
    bool begun;
};
transfer transfer_make(const std::shared_ptr<lanes> &l, const std::string &what, uint32_t captured,
                       const std::vector<message> &sends, const std::vector<message> &recvs);
/* Moves it on, from within the operation that it is: done? What two ranks do not mean alike is reported. */
bool transfer_move(transfer &t);

#endif

/* SPDX-License-Identifier: MIT */
#include "comm/mpi_message.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "base/fence.h"
#include "base/memory.h"
#include "base/process.h"

#define BLOCK      ((size_t)1 << 30) /* MPI counts are ints: longer pieces are cut */
#define NAMED_MOST 8                 /* peers that a timeout names */

int mpi_failed(int code, const char *what)
{
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    if (MPI_Error_string(code, text, &length))
        length = 0;
    return error(STATUS_ENV, "%s: %.*s", what, length, text);
}

/* Cuts the pieces into blocks, those that touch joined first. at/length NULL only counts. */
static int cut(const struct comm_piece *list, int count, MPI_Aint *at, int *length)
{
    int blocks = 0;
    for (int i = 0, next; i < count; i = next) {
        char *p = list[i].p;
        size_t bytes = list[i].bytes;
        for (next = i + 1; next < count && (char *)list[next].p == p + bytes; next++)
            bytes += list[next].bytes;
        for (size_t off = 0; off < bytes; off += BLOCK, blocks++) {
            if (at) {
                MPI_Get_address(p + off, &at[blocks]);
                length[blocks] = (int)(bytes - off < BLOCK ? bytes - off : BLOCK);
            }
        }
    }
    return blocks;
}

int mpi_describe(const struct comm_piece *list, int count, struct message *m)
{
    int blocks = cut(list, count, NULL, NULL);
    for (int i = 0; i < count; i++)
        fence_look(list[i].p, 1, list[i].bytes, 0);
    if (blocks <= 1) {
        size_t bytes = 0;
        for (int i = 0; i < count; i++)
            bytes += list[i].bytes;
        *m = (struct message){list[0].p, (int)bytes, MPI_BYTE};
        return 0;
    }
    MPI_Aint *at = xmalloc((size_t)blocks * sizeof *at);
    int *length = xmalloc((size_t)blocks * sizeof *length);
    cut(list, count, at, length);
    *m = (struct message){MPI_BOTTOM, 1, MPI_DATATYPE_NULL};
    int code = MPI_Type_create_hindexed(blocks, length, at, MPI_BYTE, &m->type);
    if (!code)
        code = MPI_Type_commit(&m->type);
    free(at);
    free(length);
    return code;
}

void mpi_forget(struct message *m)
{
    if (m->type != MPI_BYTE && m->type != MPI_DATATYPE_NULL)
        MPI_Type_free(&m->type);
}

int mpi_check_size(const MPI_Status *status, size_t expect, const char *what, const struct group *g, int peer)
{
    MPI_Count got = 0;
    MPI_Get_elements_x(status, MPI_BYTE, &got);
    if (got >= 0 && (size_t)got == expect)
        return 0;
    return error(STATUS_ENV, "%s in group '%s': peer %d (rank %d) sent %lld bytes; %zu were expected", what,
                 g->name, peer, g->ranks[peer], (long long)got, expect);
}

int mpi_no_answer(const struct group *g, const char *what, const int *peer, int count)
{
    char names[NAMED_MOST * 40 + 40];
    size_t at = 0;
    for (int i = 0; i < count && i < NAMED_MOST; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%s %d (rank %d)", i ? "," : "", peer[i],
                               g->ranks[peer[i]]);
    if (count > NAMED_MOST)
        snprintf(names + at, sizeof names - at, " and %d more", count - NAMED_MOST);
    return error(STATUS_ENV, "%s in group '%s': no answer within %g s from peer%s%s", what, g->name,
                 g->c->timeout, count > 1 ? "s" : "", names);
}

struct patience mpi_patience(const struct comm *c, size_t bytes)
{
    const struct mpi *m = c->state;
    double moving = (double)bytes / 1e9; /* seconds: a nap would stall a transfer that needs both sides */
    struct patience p = {.m = m, .start = now_s(), .spin_s = m->spin_s, .yield_s = m->yield_s + moving};
    p.limit = c->timeout > 0 ? p.start + c->timeout : 0;
    return p;
}

bool mpi_still(const struct patience *p)
{
    double now = now_s(), waited = now - p->start;
    if (p->limit > 0 && now > p->limit)
        return false;
    if (waited < p->spin_s)
        return true;
    if (waited < p->yield_s) {
        sched_yield();
        return true;
    }
    double nap = waited / 8;
    nap = nap > p->m->nap_s ? p->m->nap_s : nap;
    nanosleep(&(struct timespec){.tv_nsec = (long)(nap * 1e9)}, NULL);
    return true;
}

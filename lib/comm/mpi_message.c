/* SPDX-License-Identifier: MIT */
#include "comm/mpi_message.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/fence.h"
#include "base/memory.h"

#define BLOCK ((size_t)1 << 30) /* MPI counts are ints: longer pieces are cut */

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

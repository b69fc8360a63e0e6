/* SPDX-License-Identifier: MIT */
/* Megatron's PREFIX.idx: where the sequences of PREFIX.bin lie. Everything in it is checked against the .bin's
 * size, so that what idx_read() accepts can be read without looking again. */
#ifndef DATA_IDX_H
#define DATA_IDX_H

#include <stdint.h>

enum token_type { TOKEN_U8, TOKEN_I8, TOKEN_U16, TOKEN_I16, TOKEN_I32, TOKEN_U32, TOKEN_I64, TOKEN_U64 };

struct idx {
    enum token_type type;
    int item_bytes;
    int64_t sequences, tokens; /* tokens: the sum of all lengths, the length of the stream */
    /* Where the sequences lie back to back in index order (nearly always) `base` says it all and there are no
     * tables. */
    int64_t base;    /* byte of the stream's first token, when start is NULL */
    int64_t *start;  /* [sequences+1] tokens before each sequence, or NULL */
    int64_t *offset; /* [sequences] byte of each sequence's first token, or NULL */
};

/* 0, or -1 with error() set: the text names the file and what is wrong in it. */
int idx_read(struct idx *x, const char *idx_path, const char *bin_path, int64_t bin_bytes);
void idx_release(struct idx *x);

/* The byte in .bin of the stream's token `at`, 0 <= at < tokens; *run: how many tokens from there lie back to
 * back. */
int64_t idx_find(const struct idx *x, int64_t at, int64_t *run);

#endif

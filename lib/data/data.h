/* SPDX-License-Identifier: MIT */
/* Training data: token streams, blended, shuffled an epoch, addressed by sample number.
 *
 * A source is a Megatron PREFIX (PREFIX.bin, PREFIX.idx; a path that ends in .bin or .idx names the same) or a
 * text file, whose bytes are its tokens. Sample i of a source is tokens [i·S, i·S+S]: S inputs and S targets,
 * one later; (N−1)/S samples make an epoch and none crosses its end. No token id is special. Order within an
 * epoch is a keyed permutation of the samples (no table), a new one each epoch; it depends on seed and source
 * only.
 *
 * Several sources are blended by weight: the n-th sample of the run comes from the source that is furthest
 * behind its share (lowest index on ties). So a position is just how many samples each source has given, and
 * does not depend on the layout. */
#ifndef DATA_DATA_H
#define DATA_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct data;

/* `spec`: paths, or weight:path, several separated by blanks ("0.3:a 0.7:b"). shuffle: else samples come in
 * order. NULL with error() set: missing or truncated files, offsets outside .bin, an unknown dtype, a source
 * shorter than one sample. */
struct data *data_open(const char *spec, int64_t seq, int64_t vocab, uint64_t seed, bool shuffle);
void data_close(struct data *d);
int data_sources(const struct data *d);
int64_t data_tokens(const struct data *d); /* in all sources */
const char *data_name(const struct data *d, int source);
bool data_is_text(const struct data *d, int source); /* its tokens are bytes */
/* A checksum over names' last parts, sizes, weights, seq and seed: to see that a resume continues the same
 * stream. */
uint32_t data_identity(const struct data *d);

/* A spec with its paths absolute; caller frees. */
char *data_absolute(const char *spec);
/* What this process sees of the sources: a line "PATH: …" each, absolute, with sizes and checksums of the
 * index and of some of the tokens, so that two hosts can find whether they read the same. Caller frees; NULL
 * with error() set. */
char *data_seen(const struct data *d);

/* The position: samples given so far by each source. */
void data_tell(const struct data *d, int64_t *given /* [sources] */);
int data_seek(struct data *d, const int64_t *given, int sources);

/* Moves past the next `count` samples of the run. For each k in [0,count) with want[k] (NULL: all), writes its
 * S+1 tokens to tokens + (rank of k among the wanted)·(S+1). -1 with error() set: a read failed, or a token is
 * ≥ vocab or negative (named by file and index). */
int data_next(struct data *d, int64_t count, const bool *want, int32_t *tokens);

#endif

/* SPDX-License-Identifier: MIT */
/* What decides the stream is only: the spec, S, the seed and how many samples each source has given. Reading a
 * sample is one pread (one a sequence where these do not lie back to back); passing over one is a comparison a
 * source.
 *
 * Sources without weights count in proportion to their samples, so that all of them end an epoch together. */
#include "data/data.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/error.h"
#include "base/file.h"
#include "base/lfs.h"
#include "base/memory.h"
#include "base/num.h"
#include "base/words.h"
#include "data/idx.h"
#include "data/shuffle.h"

struct source {
    char *name, *path; /* as given, without .bin or .idx; the file that holds the tokens */
    int fd;
    struct idx idx;
    double weight;   /* normalised: they add up to 1 */
    int64_t samples; /* in an epoch */
    int64_t given, before;
};

struct data {
    struct source *source;
    int sources;
    int64_t seq, vocab, n; /* n: samples given in all */
    uint64_t seed;
    bool shuffle;
    unsigned char *raw; /* one sample as it is in the file */
};

/* ---- opening ---- */

/* Opens the file that holds the tokens; *bytes is its size. */
static int open_tokens(struct source *s, int64_t *bytes)
{
    struct stat st;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return error_errno("cannot open '%s'", s->path);
    if (!S_ISREG(st.st_mode))
        return error(STATUS_USAGE, "%s: not a regular file", s->path);
    *bytes = st.st_size;
    return lfs_refuse(s->fd, s->path);
}

static int open_megatron(struct source *s)
{
    int64_t bytes;
    s->path = xasprintf("%s.bin", s->name);
    if (open_tokens(s, &bytes) < 0)
        return -1;
    char *idx_path = xasprintf("%s.idx", s->name);
    int r = idx_read(&s->idx, idx_path, s->path, bytes);
    free(idx_path);
    return r;
}

static int open_source(struct source *s)
{
    if (ends_in(s->name, ".bin") || ends_in(s->name, ".idx")) {
        s->name[strlen(s->name) - 4] = '\0';
        return open_megatron(s);
    }
    if (!file_exists(s->name) || is_dir(s->name)) {
        char *idx_path = xasprintf("%s.idx", s->name), *bin_path = xasprintf("%s.bin", s->name);
        bool megatron = file_exists(idx_path) || file_exists(bin_path);
        free(idx_path);
        free(bin_path);
        if (megatron)
            return open_megatron(s);
        if (!file_exists(s->name))
            return error(STATUS_USAGE, "no data '%s': neither that file nor '%s.bin' and '%s.idx' is there",
                         s->name, s->name, s->name);
    }
    s->path = xstrdup(s->name);
    s->idx = (struct idx){.type = TOKEN_U8, .item_bytes = 1, .sequences = 1};
    return open_tokens(s, &s->idx.tokens);
}

/* `word` of n bytes: PATH or WEIGHT:PATH. What stands before a colon and is not a number belongs to the path.
 * */
static int add_source(struct data *d, const char *word, size_t n, bool *weighted)
{
    d->source = xrealloc(d->source, d->sources + 1, sizeof *d->source);
    struct source *s = &d->source[d->sources++];
    *s = (struct source){.fd = -1};
    s->name = xmalloc(n + 1);
    memcpy(s->name, word, n);
    s->name[n] = '\0';
    char *colon = strchr(s->name, ':');
    *weighted = false;
    if (colon) {
        *colon = '\0';
        *weighted = parse_num(s->name, -HUGE_VAL, HUGE_VAL, &s->weight);
        if (*weighted && !(s->weight >= 0 && s->weight <= 1e15))
            return error(STATUS_USAGE, "data '%.*s': the weight must be from 0 to 1e15", (int)n, word);
        *colon = ':';
        if (*weighted)
            memmove(s->name, colon + 1, strlen(colon));
    }
    if (!*s->name)
        return error(STATUS_USAGE, "data '%.*s': no file is named", (int)n, word);
    return open_source(s);
}

static const char blanks[] = " \t\n";

/* Megatron's way to write a blend is weight and path in turn, with a blank between: "0.3 a 0.7 b". When the
 * first word is a number and no data, says how that is written here. */
static int refuse_turns(const char *spec)
{
    double weight;
    size_t n = strcspn(spec, blanks), m = strcspn(spec + n + strspn(spec + n, blanks), blanks);
    char *word = strndup(spec, n), *bin = xasprintf("%s.bin", word), *here = xcalloc(strlen(spec) + 1, 1);
    bool turns = m && parse_num(word, 0, HUGE_VAL, &weight) && !file_exists(word) && !file_exists(bin);
    int i = 0;
    for (const char *p = spec; turns && *p; p += strspn(p, blanks), i++) {
        size_t k = strcspn(p, blanks);
        sprintf(here + strlen(here), "%s%.*s", !i ? "" : i % 2 ? ":" : " ", (int)k, p);
        p += k;
    }
    if (turns)
        error(STATUS_USAGE, "no data '%s': a weight stands before its path with a colon between, '%s'", word,
              here);
    free(here);
    free(bin);
    free(word);
    return turns ? -1 : 0;
}

static int add_sources(struct data *d, const char *spec)
{
    int weights = 0;
    spec += strspn(spec, blanks);
    TRY(refuse_turns(spec));
    for (const char *p = spec; *p; p += strspn(p, blanks)) {
        size_t n = strcspn(p, blanks);
        bool weighted;
        if (add_source(d, p, n, &weighted) < 0)
            return -1;
        weights += weighted;
        p += n;
    }
    if (!d->sources)
        return error(STATUS_USAGE, "no data is named");
    if (weights && weights != d->sources)
        return error(STATUS_USAGE, "data '%s': either all sources have a weight or none", spec);

    double sum = 0;
    for (struct source *s = d->source; s < d->source + d->sources; s++) {
        s->samples = s->idx.tokens > 0 ? (s->idx.tokens - 1) / d->seq : 0;
        if (s->samples < 1)
            return error(STATUS_USAGE,
                         "%s: %lld tokens are too few for one sample of %lld and the one that follows", s->path,
                         (long long)s->idx.tokens, (long long)d->seq);
        if (!weights)
            s->weight = (double)s->samples;
        sum += s->weight;
    }
    if (!(sum > 0))
        return error(STATUS_USAGE, "data '%s': the weights add up to 0", spec);
    for (int i = 0; i < d->sources; i++)
        d->source[i].weight /= sum;
    return 0;
}

struct data *data_open(const char *spec, int64_t seq, int64_t vocab, uint64_t seed, bool shuffle)
{
    if (seq < 1 || seq > INT32_MAX || vocab < 1 || vocab > (int64_t)INT32_MAX + 1) {
        error(STATUS_USAGE, "data: a sample of %lld tokens of a vocabulary of %lld is out of range",
              (long long)seq, (long long)vocab);
        return NULL;
    }
    struct data *d = xcalloc(1, sizeof *d);
    *d = (struct data){.seq = seq, .vocab = vocab, .seed = seed, .shuffle = shuffle};
    if (add_sources(d, spec) < 0) {
        data_close(d);
        return NULL;
    }
    d->raw = malloc(((size_t)seq + 1) * 8); /* every source has that many tokens */
    if (!d->raw) {
        error(STATUS_ENV, "out of memory for a sample of %lld tokens", (long long)seq);
        data_close(d);
        return NULL;
    }
    return d;
}

void data_close(struct data *d)
{
    if (!d)
        return;
    for (int i = 0; i < d->sources; i++) {
        struct source *s = &d->source[i];
        idx_release(&s->idx);
        if (s->fd >= 0)
            close(s->fd);
        free(s->name);
        free(s->path);
    }
    free(d->source);
    free(d->raw);
    free(d);
}

/* ---- about it ---- */

int data_sources(const struct data *d)
{
    return d->sources;
}

int64_t data_tokens(const struct data *d)
{
    int64_t sum = 0;
    for (int i = 0; i < d->sources; i++)
        if (!add_ok(sum, d->source[i].idx.tokens, &sum))
            return INT64_MAX;
    return sum;
}

bool data_is_text(const struct data *d, int source)
{
    return strcmp(d->source[source].path, d->source[source].name) == 0;
}

const char *data_name(const struct data *d, int source)
{
    return d->source[source].name;
}

/* Over text, so that it is the same on every machine. */
uint32_t data_identity(const struct data *d)
{
    char weight[32];
    char *line = xasprintf("%lld %llu %d\n", (long long)d->seq, (unsigned long long)d->seed, d->shuffle);
    uLong crc = crc32(0, (const Bytef *)line, (uInt)strlen(line));
    free(line);
    for (const struct source *s = d->source; s < d->source + d->sources; s++) {
        const char *slash = strrchr(s->name, '/');
        line = xasprintf("%s %lld %d %s\n", slash ? slash + 1 : s->name, (long long)s->idx.tokens,
                         s->idx.item_bytes, exact_num(s->weight, weight));
        crc = crc32(crc, (const Bytef *)line, (uInt)strlen(line));
        free(line);
    }
    return (uint32_t)crc;
}

char *data_absolute(const char *spec)
{
    char *whole = xstrdup("");
    for (const char *p = spec + strspn(spec, " \t\n"); *p; p += strspn(p, " \t\n")) {
        size_t n = strcspn(p, " \t\n"), at = 0;
        double weight;
        char *word = xasprintf("%.*s", (int)n, p), *colon = strchr(word, ':');
        if (colon) {
            *colon = '\0';
            at = parse_num(word, -HUGE_VAL, HUGE_VAL, &weight) ? strlen(word) + 1 : 0;
            *colon = ':';
        }
        char *path = word[at] ? path_absolute(word + at) : xstrdup("");
        if (strpbrk(path, " \t\n")) { /* a blank in the working directory's name would end the word */
            free(path);
            path = xstrdup(word + at);
        }
        char *longer = xasprintf("%s%s%.*s%s", whole, *whole ? " " : "", (int)at, word, path);
        free(whole);
        free(word);
        free(path);
        whole = longer;
        p += n;
    }
    return whole;
}

enum { SAMPLES = 16, SAMPLE_BYTES = 4096 };

/* Of the index's tables, where it needs some, and of pages of the tokens at even distances. */
static int sum_samples(const struct source *s, int64_t bytes, uint32_t *crc)
{
    char page[SAMPLE_BYTES];
    int64_t n = min64(bytes, SAMPLE_BYTES);
    *crc = 0;
    if (s->idx.offset)
        *crc = (uint32_t)crc32_z(0, (const Bytef *)s->idx.offset,
                                 (size_t)s->idx.sequences * sizeof *s->idx.offset);
    if (s->idx.start)
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)s->idx.start,
                                 (size_t)s->idx.sequences * sizeof *s->idx.start);
    for (int i = 0; i < SAMPLES && n; i++) {
        TRY(pread_all(s->fd, page, (size_t)n, (bytes - n) / (SAMPLES - 1) * i, s->path));
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)page, (size_t)n);
    }
    return 0;
}

char *data_seen(const struct data *d)
{
    char *text = xstrdup("");
    for (const struct source *s = d->source; s < d->source + d->sources; s++) {
        struct stat st;
        uint32_t crc = 0;
        int r = fstat(s->fd, &st) == 0 ? sum_samples(s, st.st_size, &crc)
                                       : error_errno("cannot read '%s'", s->path);
        char *path = path_absolute(s->path),
             *longer =
                 xasprintf("%s%s: %lld bytes, %lld tokens in %lld sequences, samples %08x\n", text, path,
                           (long long)st.st_size, (long long)s->idx.tokens, (long long)s->idx.sequences, crc);
        free(path);
        free(text);
        text = longer;
        if (r < 0) {
            free(text);
            return NULL;
        }
    }
    return text;
}

void data_tell(const struct data *d, int64_t *given)
{
    for (int i = 0; i < d->sources; i++)
        given[i] = d->source[i].given;
}

int data_seek(struct data *d, const int64_t *given, int sources)
{
    int64_t n = 0;
    if (sources != d->sources)
        return error(STATUS_USAGE, "data: the position is one of %d sources, and there are %d", sources,
                     d->sources);
    for (int i = 0; i < sources; i++)
        if (given[i] < 0 || !add_ok(n, given[i], &n))
            return error(STATUS_USAGE, "%s: %lld samples given is not a position", d->source[i].name,
                         (long long)given[i]);
    for (int i = 0; i < sources; i++)
        d->source[i].given = given[i];
    d->n = n;
    return 0;
}

/* ---- reading ---- */

static int64_t token_at(const unsigned char *raw, enum token_type type, int64_t i)
{
#define AS(T)                                                                                                  \
    {                                                                                                          \
        T value;                                                                                               \
        memcpy(&value, raw + i * (int64_t)sizeof value, sizeof value);                                         \
        return (int64_t)value;                                                                                 \
    }
    switch (type) {
    case TOKEN_U8:
        AS(uint8_t)
    case TOKEN_I8:
        AS(int8_t)
    case TOKEN_U16:
        AS(uint16_t)
    case TOKEN_I16:
        AS(int16_t)
    case TOKEN_I32:
        AS(int32_t)
    case TOKEN_U32:
        AS(uint32_t)
    case TOKEN_I64:
        AS(int64_t)
    case TOKEN_U64: /* what is too large for i64 comes out negative, and is refused either way */
        AS(uint64_t)
    }
#undef AS
    return -1;
}

/* Tokens [at, at+count) of the source's stream. */
static int read_tokens(struct data *d, struct source *s, int64_t at, int64_t count, int32_t *tokens)
{
    unsigned char *p = d->raw;
    for (int64_t done = 0; done < count;) {
        int64_t run, byte = idx_find(&s->idx, at + done, &run);
        run = min64(run, count - done);
        if (pread_all(s->fd, p, run * s->idx.item_bytes, byte, s->path) < 0)
            return -1;
        p += run * s->idx.item_bytes;
        done += run;
    }
    for (int64_t i = 0; i < count; i++) {
        int64_t token = token_at(d->raw, s->idx.type, i);
        if (token < 0 || token >= d->vocab) {
            if (token < 0 && s->idx.type == TOKEN_U64)
                return error(STATUS_USAGE, "%s: token %llu at index %lld is outside the vocabulary of %lld",
                             s->path, (unsigned long long)token, (long long)(at + i), (long long)d->vocab);
            return error(STATUS_USAGE, "%s: token %lld at index %lld is outside the vocabulary of %lld",
                         s->path, (long long)token, (long long)(at + i), (long long)d->vocab);
        }
        tokens[i] = (int32_t)token;
    }
    return 0;
}

/* The source of the run's next sample. The deficits of all sources add up to 1, so one of them is above 0: a
 * source of weight 0 is never chosen. */
static struct source *next_source(struct data *d)
{
    struct source *best = d->source;
    double most = -HUGE_VAL;
    if (d->sources == 1)
        return best;
    for (struct source *s = d->source; s < d->source + d->sources; s++) {
        double deficit = s->weight * (double)(d->n + 1) - (double)s->given;
        if (deficit > most) {
            most = deficit;
            best = s;
        }
    }
    return best;
}

static int read_sample(struct data *d, struct source *s, int32_t *tokens)
{
    int64_t epoch = s->given / s->samples, i = s->given % s->samples;
    if (d->shuffle)
        i = shuffle_at(shuffle_key(d->seed, (uint64_t)(s - d->source), (uint64_t)epoch), s->samples, i);
    return read_tokens(d, s, i * d->seq, d->seq + 1, tokens);
}

int data_next(struct data *d, int64_t count, const bool *want, int32_t *tokens)
{
    int64_t n = d->n;
    for (int i = 0; i < d->sources; i++)
        d->source[i].before = d->source[i].given;
    for (int64_t k = 0; k < count; k++) {
        struct source *s = next_source(d);
        if (!want || want[k]) {
            if (read_sample(d, s, tokens) < 0)
                goto back;
            tokens += d->seq + 1;
        }
        s->given++;
        d->n++;
    }
    return 0;
back: /* a failed call leaves the position as it was */
    for (int i = 0; i < d->sources; i++)
        d->source[i].given = d->source[i].before;
    d->n = n;
    return -1;
}

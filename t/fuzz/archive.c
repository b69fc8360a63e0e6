/* SPDX-License-Identifier: MIT */
/* Archives. As files; as an index, of which what is accepted is the same after being written and read, with
 * members that it names and whose sums are right; and as parts of each codec. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "fuzz/fuzz.h"
#include "pack/index.h"
#include "pack/restore.h"
#include "pack/tape.h"
#include "tensors/sum.h"

/* libarchive 3.6 loses a few bytes of a malformed header now and then; a reader gives up at the first such. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libarchive.so\n";
}

static void try_file(const char *path)
{
    struct verified v;
    char about[160];
    if (verify_archive(&v, path, 1, about) == 0)
        verified_release(&v);
}

/* What an index says, said again. */
static void say_again(const struct pack_index *ix)
{
    struct pack_index again;
    size_t bytes, more;
    char *text = index_text(ix, &bytes), *copy = malloc(bytes + 1);
    memcpy(copy, text, bytes + 1);
    MUST(index_parse(&again, copy, bytes, "again") == 0);
    char *second = index_text(&again, &more);
    MUST(more == bytes && memcmp(text, second, bytes) == 0);
    index_release(&again);
    free(second);
    free(copy);
    free(text);
}

/* An archive with this index, and for each member it names the bytes of `data`. */
static void try_members(const struct pack_index *ix, const char *index, size_t bytes, const uint8_t *data,
                        size_t size)
{
    const char *path = memory_file(data, 0);
    int fd = open(path, O_WRONLY);
    struct tape_writer *w = tape_create(fd, path, false);
    int rc = tape_member(w, INDEX_MEMBER, (int64_t)bytes, 0644, 1, 0);
    rc |= tape_write(w, index, (int64_t)bytes);
    for (int i = 0; i < ix->file_count && rc == 0; i++) {
        char *name = packed_member_name(ix, &ix->files[i], 0);
        rc |= tape_member(w, name, (int64_t)size, 0644, 1, 0);
        rc |= tape_write(w, data, (int64_t)size);
        free(name);
    }
    if (rc == 0)
        rc = tape_finish(w, NULL);
    else
        tape_abandon(w);
    close(fd);
    try_file(path);
}

/* data: an index up to a NUL or the end, then what members hold. */
static void try_index(const uint8_t *data, size_t size)
{
    struct pack_index ix;
    size_t n = strnlen((const char *)data, size);
    char *text = malloc(n + 1);
    memcpy(text, data, n);
    text[n] = '\0';
    if (index_parse(&ix, text, n, "index") == 0) {
        char *whole = malloc(n + 1); /* the text was cut up */
        memcpy(whole, data, n);
        say_again(&ix);
        if (ix.file_count < 20)
            try_members(&ix, whole, n, data + n, size - n);
        free(whole);
        index_release(&ix);
    }
    free(text);
}

static void try_part(enum codec codec, const uint8_t *data, size_t size)
{
    if (size < 2)
        return;
    int64_t n = data[0] + 256 * data[1];
    uint8_t *raw = malloc((size_t)n + 1);
    uint32_t crc;
    static struct coder *coders[CODECS];
    if (!coders[codec])
        coders[codec] = coder_new(codec, 1 << 16);
    if (coder_decode(coders[codec], data + 2, (int64_t)size - 2, raw, n, &crc) == 0)
        MUST(crc == sum_bytes(0, raw, n));
    free(raw);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_file(memory_file(data, size));
    try_index(data, size);
    try_part(CODEC_SPLIT, data, size);
    try_part(CODEC_GZIP, data, size);
    return 0;
}

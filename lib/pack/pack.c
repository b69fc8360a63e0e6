/* SPDX-License-Identifier: MIT */
/* Threads read parts and pack them; one writes them in order. */
#include "pack/pack.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/crew.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/num.h"
#include "pack/prepare.h"
#include "pack/tape.h"
#include "tensors/sum.h"

#define ARCHIVE_TIME 315532800 /* 1980, of the index: the same directory gives the same archive */

int pack_all_threads(void)
{
    return (int)max64(sysconf(_SC_NPROCESSORS_ONLN), 1);
}

int pack_threads(int threads, int64_t part_bytes, int each)
{
    int64_t parts = PACK_BUFFERS / part_bytes;
    return (int)max64(1, min64(threads, (parts - 4) / (each + 2)));
}

/* A part of a file. */
struct pack_job {
    struct crew_job job;
    int file;
    int64_t part, at, bytes; /* at: in what the file's members hold */
    uint32_t crc32;
    uint8_t *raw, *packed;
    int64_t packed_bytes;
};

struct pack_hand {
    struct coder *coder;
    struct kept_file file, base;
    struct split_run *runs;
    uint8_t *scratch;
};

struct packing {
    struct prepared p;
    struct pack_hand *hands;
    int threads;
    struct crew *crew;
    struct tape_writer *tape;
    uint32_t crc32; /* of the file being written, so far */
    int64_t done, total;
};

/* ---- in any thread ---- */

static int read_part(struct packing *k, struct pack_job *j, struct pack_hand *h)
{
    const struct packed_file *f = &k->p.index.files[j->file];
    for (int64_t done = 0; done < j->bytes;) {
        int64_t n = j->bytes - done, from = packed_place(f, j->at + done, &n);
        TRY(kept_read(&h->file, k->p.request->dir, f->name, j->raw + done, n, from));
        done += n;
    }
    j->crc32 = sum_bytes(0, j->raw, j->bytes);
    return 0;
}

static int pack_part(void *with, void *job, int hand)
{
    struct packing *k = with;
    struct pack_job *j = job;
    struct pack_hand *h = &k->hands[hand];
    const struct packed_file *f = &k->p.index.files[j->file];
    uint32_t crc32;
    int64_t most = split_most_runs(j->bytes), runs = 0;
    TRY(read_part(k, j, h));
    if (!h->coder)
        return 0;
    crc32 = j->crc32;
    if (packed_has_xor(f)) {
        TRY(base_xor(&h->base, k->p.base.dir, f, j->at, j->bytes, j->raw, h->scratch));
        crc32 = sum_bytes(0, j->raw, j->bytes);
    }
    if (k->p.index.codec == CODEC_SPLIT)
        runs = prepared_runs(&k->p, j->file, j->at, j->bytes, h->runs, most);
    j->packed_bytes = coder_encode(h->coder, j->raw, j->bytes, crc32, h->runs, runs, j->packed);
    return j->packed_bytes < 0 ? -1 : 0;
}

/* ---- in order ---- */

static int write_member(struct packing *k, const struct packed_file *f, const struct pack_job *j)
{
    char *name = packed_member_name(&k->p.index, f, j->part);
    bool whole = k->p.index.codec == CODEC_NONE;
    int rc = 0;
    if (!whole || j->part == 0)
        rc = tape_member(k->tape, name, whole ? f->bytes : j->packed_bytes, f->mode, f->mtime,
                         whole ? f->mtime_ns : 0);
    if (rc == 0)
        rc = whole ? tape_write(k->tape, j->raw, j->bytes) : tape_write(k->tape, j->packed, j->packed_bytes);
    free(name);
    return rc;
}

/* The oldest part, packed, to the archive. */
static int write_part(struct packing *k, const struct pack_job *j)
{
    const struct packed_file *f = &k->p.index.files[j->file];
    if (j->job.failed)
        return -1;
    TRY(write_member(k, f, j));
    k->crc32 = sum_join(j->part ? k->crc32 : 0, j->crc32, j->bytes);
    k->done += j->bytes;
    progress("packing", (uint64_t)k->done >> 20, (uint64_t)k->total >> 20, "MiB");
    uint32_t wanted = k->p.files[j->file].packed_crc32;
    if (j->at + j->bytes == packed_bytes(f) && k->crc32 != wanted)
        return error(STATUS_USAGE,
                     "'%s/%s' is damaged, or changed while it was packed: crc32 %08" PRIx32 ", not %08" PRIx32,
                     k->p.request->dir, f->name, k->crc32, wanted);
    return 0;
}

static int take_back(struct packing *k, const struct pack_job *j)
{
    int rc = write_part(k, j);
    if (rc == 0)
        crew_free(k->crew);
    return rc;
}

static int write_files(struct packing *k)
{
    const struct pack_index *ix = &k->p.index;
    struct pack_job *j;
    for (int i = 0; i < ix->file_count; i++) {
        int64_t bytes = packed_bytes(&ix->files[i]), at = 0, part = 0;
        do {
            while (!(j = crew_slot(k->crew)))
                TRY(take_back(k, crew_wait(k->crew)));
            j->file = i;
            j->part = part++;
            j->at = at;
            j->bytes = min64(ix->part_bytes, bytes - at);
            at += j->bytes;
            crew_submit(k->crew);
        } while (at < bytes);
    }
    while ((j = crew_wait(k->crew)))
        TRY(take_back(k, j));
    return 0;
}

static int write_index(struct packing *k)
{
    size_t bytes;
    char *text = index_text(&k->p.index, &bytes);
    int rc =
        (int64_t)bytes > MAX_INDEX_BYTES
            ? error(STATUS_USAGE, "'%s' has too many files and tensors: its index would be larger than %d MiB",
                    k->p.request->dir, (int)(MAX_INDEX_BYTES >> 20))
            : tape_member(k->tape, INDEX_MEMBER, (int64_t)bytes, 0644, ARCHIVE_TIME, 0);
    if (rc == 0)
        rc = tape_write(k->tape, text, (int64_t)bytes);
    free(text);
    return rc;
}

/* ---- all ---- */

static void packing_start(struct packing *k)
{
    const struct pack_index *ix = &k->p.index;
    bool base = ix->base != NULL;
    struct pack_job *j;
    k->threads = pack_threads(k->p.request->threads, ix->part_bytes, base ? 2 : 1);
    k->hands = xcalloc(k->threads, sizeof *k->hands);
    for (int i = 0; i < k->threads; i++)
        k->hands[i] = (struct pack_hand){
            .coder = coder_new(ix->codec, ix->part_bytes),
            .file = {-1},
            .base = {-1},
            .runs = xcalloc(split_most_runs(ix->part_bytes), sizeof *k->hands[i].runs),
            .scratch = base ? xmalloc((size_t)ix->part_bytes) : NULL,
        };
    k->crew = crew_start(k->threads, k->threads > 1 ? k->threads + 2 : 1, sizeof *j, pack_part, k);
    for (int i = 0; (j = crew_job(k->crew, i)); i++) {
        j->raw = xmalloc((size_t)ix->part_bytes);
        j->packed = ix->codec == CODEC_NONE ? NULL : xmalloc((size_t)codec_bound(ix->codec, ix->part_bytes));
    }
}

static void packing_end(struct packing *k)
{
    struct pack_job *j;
    crew_stop(k->crew);
    for (int i = 0; (j = crew_job(k->crew, i)); i++) {
        free(j->raw);
        free(j->packed);
    }
    crew_release(k->crew);
    for (int i = 0; i < k->threads; i++) {
        coder_free(k->hands[i].coder);
        kept_close(&k->hands[i].file);
        kept_close(&k->hands[i].base);
        free(k->hands[i].runs);
        free(k->hands[i].scratch);
    }
    free(k->hands);
    progress_end();
}

static bool is_ascii(const char *name)
{
    while (*name && (unsigned char)*name < 0x80)
        name++;
    return !*name;
}

static int pack_to(struct packing *k, struct packed *done, struct output *o)
{
    const struct pack_index *ix = &k->p.index;
    const char *path = o->path ? o->path : "standard output";
    bool any_names = false;
    for (int i = 0; i < ix->file_count; i++) {
        any_names |= !is_ascii(ix->files[i].name);
        done->bytes += ix->files[i].bytes;
        k->total += packed_bytes(&ix->files[i]);
    }
    done->files = ix->file_count;
    done->made_bytes = k->p.made_bytes;
    k->tape = tape_create(fileno(o->stream), path, any_names);
    if (!k->tape)
        return -1;
    packing_start(k);
    int rc = write_index(k);
    if (rc == 0)
        rc = write_files(k);
    packing_end(k);
    if (rc == 0)
        return tape_finish(k->tape, &done->archive);
    tape_abandon(k->tape);
    return -1;
}

int pack_dir(const struct pack_request *r, struct packed *done)
{
    struct packing k = {0};
    struct output o;
    *done = (struct packed){0};
    bool to_stdout = !r->out || strcmp(r->out, "-") == 0;
    if (to_stdout && isatty(STDOUT_FILENO))
        return error(STATUS_USAGE, "an archive is nothing for a terminal: use -o FILE or a pipe");
    if (!to_stdout && path_within(r->out, r->dir))
        return error(STATUS_USAGE, "'%s' would lie in '%s', which is to stay as it is", r->out, r->dir);
    TRY(output_check(r->out));
    TRY(prepare(&k.p, r));
    int rc = output_open(&o, r->out);
    if (rc == 0) {
        rc = pack_to(&k, done, &o);
        if (rc < 0)
            output_abandon(&o);
        else
            rc = output_commit(&o);
    }
    prepared_release(&k.p);
    return rc;
}

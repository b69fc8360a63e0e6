/* SPDX-License-Identifier: MIT */
/* The index of an archive, its first member: which members follow, and what the files in them are. Text records
 * (base/record.h); moe-archive(5) describes them.
 *
 *   moe-archive 1
 *   pack codec=split part-bytes=4194304 step=100
 *   base name=step-00000080 sum=0badc0de
 *   experts 0-3
 *   dir . mode=755 mtime=1764380000 ns=0
 *   file dense.safetensors bytes=407688 crc32=89abcdef mode=644 mtime=1764380000 ns=123456789
 *   made begin=1024 end=9216 file=7 at=2048
 *   xor begin=9216 end=407688 file=dense.safetensors at=9216
 *
 * What a file's members hold is its bytes in order, without those that are made again, in parts of part-bytes
 * (the last has the rest; an empty file has one, of none). With the codec none there is one member, the file.
 *
 * An index is a contract, as a plan is: what is unknown in it is refused. */
#ifndef PACK_INDEX_H
#define PACK_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/names.h"
#include "pack/codec.h"

/* No file's name begins as these do. */
#define INDEX_MEMBER ARCHIVE_FOLDER "/index"
#define SUM_MEMBER   ARCHIVE_FOLDER "/sum"

#define MAX_INDEX_BYTES ((int64_t)16 << 20) /* of its text, so that memory is bounded */
#define MIN_PART_BYTES  ((int64_t)4 << 10)
#define MAX_PART_BYTES  ((int64_t)32 << 20)

/* Bytes [begin,end) of a file that come from elsewhere. */
struct packed_span {
    int64_t begin, end;
    int64_t before; /* made: bytes of the file's members that stand before it */
    int file;       /* made: these BF16 numbers are those F32 ones, of this file in the index, rounded */
    char *base;     /* xor: what is packed is the difference from this file of the base; NULL: made */
    int64_t at;     /* where, in either, they begin */
};

struct packed_file {
    char *name; /* relative; in the archive and in the directory */
    int64_t bytes;
    uint32_t crc32;
    int mode; /* permissions */
    int64_t mtime;
    int mtime_ns;
    char *experts;             /* of a file that holds nothing but experts' tensors: which ("0-3"); else NULL */
    char *layers;              /* and of which layers */
    struct packed_span *spans; /* in order of begin */
    int span_count;
};

struct packed_dir {
    char *name; /* "." for the directory that was packed */
    int mode;
    int64_t mtime;
    int mtime_ns;
};

struct pack_index {
    enum codec codec;
    int64_t part_bytes;
    int64_t step;      /* -1: not a step directory */
    char *base;        /* the last part of the base's path, for messages; NULL: there is none */
    uint32_t base_sum; /* what identifies it: base.h */
    char *experts; /* NULL: whole; else what was asked for, and experts' files without any of it are left out */
    struct packed_dir *dirs;
    int dir_count;
    struct packed_file *files;
    int file_count;
    bool newer; /* after index_parse() failed: it is for a newer moekit */
};

/* Takes over `name`. */
struct packed_file *index_add_file(struct pack_index *ix, char *name);
struct packed_dir *index_add_dir(struct pack_index *ix, char *name);
/* Behind the file's others. */
struct packed_span *index_add_span(struct packed_file *f);
/* After the last span: what `before` is. */
void index_place_spans(struct packed_file *f);
/* Releases the file, and moves up those behind it. */
void index_drop_file(struct pack_index *ix, int file);
void index_release(struct pack_index *ix);

/* Its text; caller frees. */
char *index_text(const struct pack_index *ix, size_t *bytes);
/* From its text, which is cut up. All is checked: names are relative, lead nowhere else, and none is twice or a
 * folder of another; sizes, spans and what they refer to fit. -1: status 2, and nothing to release. */
int index_parse(struct pack_index *ix, char *text, size_t bytes, const char *where);
/* Whether a name may be a file's or folder's: relative, without empty, . and .. parts, of at most 1000
 * bytes. */
bool index_name_ok(const char *name);

/* ---- what a file's members hold ---- */

/* Bytes in all of them. */
int64_t packed_bytes(const struct packed_file *f);
/* How many there are. */
int64_t packed_members(const struct pack_index *ix, const struct packed_file *f);
/* The name of one, caller frees. */
char *packed_member_name(const struct pack_index *ix, const struct packed_file *f, int64_t part);
/* Byte `at` of them is this byte of the file, and so are those after it, *run in number at most as given. */
int64_t packed_place(const struct packed_file *f, int64_t at, int64_t *run);
bool packed_is_made(const struct packed_file *f); /* some of its bytes are */
bool packed_has_xor(const struct packed_file *f);

#endif

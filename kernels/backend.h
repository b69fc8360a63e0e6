/* SPDX-License-Identifier: MIT */
/* A compute backend: memory, streams, events, and the operations of ops.h, as one table of functions.
 *
 * Everything above this line treats tensors as device memory: a pointer from alloc() is never dereferenced,
 * contents go in through upload() and come out through download(), and work is ordered by streams and events.
 * Whatever is queued in a stream may run later; structs and host arrays are the caller's again when the call
 * returns.
 *
 * Backends: `ref` (plain loops, the oracle), `cpu` (oneDNN and OpenMP), `cuda` (NVIDIA's devices; a module
 * that is loaded when it is asked for), and `late` (cpu, which runs what is queued as late and in as odd an
 * order as it may, and checks that nothing is left to chance; used by tests). A backend is a folder or a file,
 * and a row of backends.h.
 *
 * An operation does not return an error. A failure is kept and reported by the next sync() or download(). */
#ifndef KERNELS_BACKEND_H
#define KERNELS_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/words.h"
#include "ops.h"

struct stream; /* an ordered queue of work */
struct event;  /* a point in a stream: where it was recorded last */
struct graph;  /* work that can be queued as a whole, over and over */

/* Work of the host on device memory, in the order of a stream: communication by MPI, in practice. When all that
 * was queued before it is done, start() is called, then move() until one of them says that it is done, and then
 * what was queued later goes on. The ranges' `host` are then where the host finds them: it may read those of
 * HOST_READ, and what it writes to those of HOST_WRITE is on the device before later work. Ranges do not
 * overlap. The caller's struct lives until release(). */
enum host_access { HOST_READ = 1, HOST_WRITE = 2 };
struct host_range {
    void *p;
    size_t bytes;
    enum host_access access;
    void *host;
};
struct host_work {
    const char *what, *group; /* for reports: "all_gather", "tp" */
    struct host_range *ranges;
    int count;
    /* 1: done; 0: not yet; -1: failed, error() is set. They return soon, and call nothing of the backend. */
    int (*start)(struct host_work *w);
    int (*move)(struct host_work *w);
    /* The host has nothing better to do than to wait for this work: a pause between two moves. -1 with error()
     * set when it gives up. */
    int (*await)(struct host_work *w);
    /* The last call: done, failed, or dropped because other work has failed. */
    void (*release)(struct host_work *w);
};

/* Work of a library of the device's own (NCCL, in practice) in a stream: on the device it begins when all that
 * was queued before it there is done, and what is queued later sees what it has done. The caller's struct lives
 * until release(). */
struct device_work {
    const char *what, *group; /* for reports, as above */
    size_t bytes;             /* of what it sends, or receives if it sends nothing */
    /* Gives it to the device's stream, `stream` as the device's library knows it (a cudaStream_t). 0, or -1
     * with error() set. It calls nothing of the backend, nor do the others. */
    int (*issue)(struct device_work *w, void *stream);
    /* It is under way: 0, or -1 with error() set if it has failed. */
    int (*check)(struct device_work *w);
    /* It has begun, and the host has nothing better to do than to wait for it: check(), and a pause. -1 when it
     * gives up. rest(): the host goes on with something else. */
    int (*await)(struct device_work *w);
    void (*rest)(struct device_work *w);
    /* The last call: done, failed, or dropped because other work has failed. */
    void (*release)(struct device_work *w);
};

/* The device that a backend computes on, as it was when it was opened. */
struct backend_device {
    char name[256];
    char id[32]; /* tells it from the host's others: its address on the bus, "0000:1b:00.0" */
    int64_t bytes;
    /* What is taken of them before the backend allocates anything: its own context, those of other processes,
     * and what the driver keeps. */
    int64_t context_bytes;
};

struct backend {
    const char *name;
    const struct backend_device *device; /* NULL: the host computes */

    /* Device memory, aligned to 64 bytes (SCRATCH_ALIGN on a device); NULL on failure (error() is set; errno is
     * ENOMEM when there is not so much). What it holds is undefined. It may be freed when the host has waited
     * for all that touches it. */
    void *(*alloc)(size_t bytes);
    void (*free)(void *p, size_t bytes);

    /* NULL in place of a stream, here and below: done before the call returns, after nothing. */
    struct stream *(*stream_new)(void);
    void (*stream_free)(struct stream *s);
    /* Memory for what operations in s need besides their arguments, aligned to SCRATCH_ALIGN (scratch.h): kept,
     * not owned. A backend that needs some, and was given none or too little, allocates its own. */
    void (*stream_scratch)(struct stream *s, void *p, size_t bytes);
    struct event *(*event_new)(void);
    void (*event_free)(struct event *e);
    void (*event_record)(struct event *e, struct stream *s); /* e happens when all work now in s is done */
    void (*event_wait)(struct stream *s, struct event *e);   /* later work in s starts after e */
    /* Seconds between two events that have both happened; of each the latest record that did. */
    double (*elapsed)(const struct event *from, const struct event *to);

    /* Blocks until all work in s is done. 0, or -1 with error() set if any operation failed. */
    int (*sync)(struct stream *s);

    /* Ordered in s. copy: device to device, no overlap. upload: `host` may be reused on return.
     * download: blocks until the bytes are in `host`; 0 or -1 as sync(). */
    void (*zero)(struct stream *s, void *dst, size_t bytes);
    void (*copy)(struct stream *s, void *dst, const void *src, size_t bytes);
    void (*upload)(struct stream *s, void *dst, const void *host, size_t bytes);
    int (*download)(struct stream *s, void *host, const void *src, size_t bytes);

    /* Queues work of the host. It moves on in calls of this table that wait, and in poll(). After a failure
     * what was queued in all streams is dropped. */
    void (*host_work)(struct stream *s, struct host_work *w);
    /* Queues work of a device's library; NULL where the host computes. While such work is under way the host
     * waits for the device by asking, and after a failure it does not wait at all. */
    void (*device_work)(struct stream *s, struct device_work *w);
    /* Moves the work of the host on as far as it goes without waiting: for a host that waits for something
     * else meanwhile. 0, or -1 with error() set as sync(). */
    int (*poll)(void);

    /* How it computes where a library has several ways, as text that a later process may be given before its
     * first operation, so that the bits are the same; NULL where there is no choice. use_algorithms(): what is
     * for another device or library is passed over, and said; -1 with error() set, beginning with the line's
     * number, if it is no such text. */
    char *(*algorithms)(void);
    int (*use_algorithms)(const char *text);
    /* While on, operations are not done: what their first use would choose, with these operands, or load is
     * chosen and loaded (backend_rehearsal()). Products may write their result. NULL where there is no such
     * thing. Failures are kept. */
    void (*prepare)(bool on);

    /* A graph: operations, copies and zeros of a stream, given to the device as a whole. What is queued in s
     * between begin and end is not done but becomes the graph, with the operands it was queued with; it must
     * be of a kind that has been done before, and neither wait, nor go up or down, nor touch an event or
     * another stream. Work of a library may be in it: issued once, watched each time, released with the graph.
     * NULL where there is no such thing. begin() is 1; or 0 when some operation has failed
     * already, which is still to be heard of; or -1 with error() set: then nothing is captured. end() is
     * NULL with error() set where the graph could not be made: then the stream is as it was before. run()
     * does it in its turn, as often as one likes; a graph may be freed when the host has waited for what it
     * does, or when it never will. */
    int (*graph_begin)(struct stream *s);
    struct graph *(*graph_end)(struct stream *s);
    void (*graph_run)(struct stream *s, struct graph *g);
    void (*graph_free)(struct graph *g);

    /* The operations of ops.h: be->rmsnorm(stream, &(struct rmsnorm){...}). */
#define X(name) void (*name)(struct stream *, const struct name *);
    BACKEND_OPS(X)
#undef X
};

/* A row of the table of backends (backends.h). */
struct backend_kind {
    const char *name;
    bool automatic; /* may be chosen by the device of a plan's machine */
    const struct backend *(*open)(int device);
};
extern const struct backend_kind backend_kinds[]; /* a NULL name ends them */
extern const struct words backend_words;

/* The backend called `name`, ready to use with `threads` threads of the host, on the machine's device number
 * `device` (from 0; a backend that computes on the host has none and ignores it; a number beyond the last
 * begins at the first again: the launcher may have left each rank one, or ranks may share them). NULL with
 * error() set. */
const struct backend *backend_open(const char *name, int device, int threads);

/* Makes *rehearsal a table for going through the motions of `be`, which has prepare() and must outlive it, and
 * prepares from now on. Streams, events and memory are be's. Operations are prepared; copies and records of
 * events do nothing; work of the host, or of a library, is released; what is downloaded is zeros. */
void backend_rehearsal(struct backend *rehearsal, const struct backend *be);

#endif

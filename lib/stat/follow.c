/* SPDX-License-Identifier: MIT */
#include "stat/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/process.h"
#include "stat/foreign.h"
#include "stat/report.h"
#include "stat/texts.h"

enum {
    READ_BYTES = 1 << 18,
    WAITING = 1 << 14, /* records that may come between two looks at which of them count */
};
#define PAUSE_S 0.5 /* who wrote nothing for so long has written all of a step */

/* What was counted of steps, evaluations and checkpoints that are kept no more. */
struct gone {
    double steps, dropped, overflow, nan_steps, evals, saves, save_s, peak_bytes;
};

struct state {
    const struct follow *o;
    struct steplog log;
    struct gone gone;
    struct foreign *foreign; /* who reads another trainer's log; NULL: ours */
    bool decided;            /* whether it is ours; until then lines wait in `text` */
    size_t looked;           /* so much of `text` does not decide */
    int fd;
    bool is_file;
    dev_t device;
    ino_t inode;
    int64_t at; /* bytes of the file that were read */
    char *text; /* what is not yet a whole line, READ_BYTES more, and padding */
    size_t bytes, room;
    bool overlong; /* the line goes on beyond MAX_LINE_BYTES: its rest is passed over */
    bool news;     /* since it was last told */
    bool paused;   /* no more lines came for PAUSE_S */
    double told_s, read_s;
};

static volatile sig_atomic_t stop;

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* ---- reading ---- */

/* All but the last steps and events are counted, and go. */
static void forget(struct state *f)
{
    struct steplog *log = &f->log;
    size_t most = (size_t)f->o->last;
    for (size_t i = 0; i + most < log->count; i++) {
        const struct step_record *r = steplog_step(log, i);
        f->gone.steps++;
        f->gone.dropped += (double)r->dropped;
        f->gone.overflow += (double)r->overflow;
        f->gone.nan_steps += r->diverged;
        f->gone.peak_bytes = fmax(f->gone.peak_bytes, r->peak_bytes);
    }
    for (size_t i = 0; i + most < log->saves; i++) {
        double t = steplog_save(log, i)->time_s;
        f->gone.saves++;
        f->gone.save_s += t >= 0 ? t : 0;
    }
    if (log->evals > most)
        f->gone.evals += (double)(log->evals - most);
    if (log->count > most)
        spool_drop(&log->step_spool, log->count - most);
    if (log->saves > most)
        spool_drop(&log->save_spool, log->saves - most);
    if (log->evals > most)
        spool_drop(&log->eval_spool, log->evals - most);
    log->count = log->step_spool.count;
    log->saves = log->save_spool.count;
    log->evals = log->eval_spool.count;
}

static const char *name_of(const struct state *f)
{
    return strcmp(f->o->path, "-") == 0 ? "stdin" : f->o->path;
}

/* Which of the records count; of those the last ones are kept. */
static int settle(struct state *f)
{
    TRY(steplog_settle(&f->log));
    forget(f);
    return 0;
}

static bool many_wait(const struct state *f)
{
    size_t most = (size_t)f->o->last + WAITING;
    return f->log.step_spool.count > most || f->log.save_spool.count > most || f->log.eval_spool.count > most;
}

/* Who wrote these lines. False: they do not tell, and may wait for more that do. */
static bool decide(struct state *f, const struct log_lines *l, bool last)
{
    const struct trainer *who = NULL;
    struct log_lines fresh = {.text = l->text + f->looked, .bytes = l->bytes - (int64_t)f->looked};
    if (f->decided)
        return true;
    f->decided = foreign_decide(&fresh, &who) || last || f->bytes > FOREIGN_LOOK;
    f->looked = f->decided ? 0 : (size_t)l->bytes;
    if (who)
        f->foreign = foreign_begin(&f->log, 0, who);
    return f->decided;
}

static int feed(struct state *f, struct log_lines *l)
{
    f->news = true;
    if (!f->foreign)
        return steplog_feed(&f->log, name_of(f), l);
    foreign_lines(f->foreign, l);
    f->paused = false;
    return 0;
}

/* Of a line that goes on beyond MAX_LINE_BYTES nothing is kept. */
static void drop_overlong(struct state *f)
{
    if (f->bytes <= MAX_LINE_BYTES)
        return;
    f->log.skipped_lines += !f->overlong;
    f->overlong = true;
    f->bytes = 0;
}

/* Whole lines go into the log; what is left stays for later. `last`: there are no more. */
static int take_lines(struct state *f, bool last)
{
    const char *feed_at = memrchr(f->text, '\n', f->bytes);
    if (!feed_at) {
        drop_overlong(f);
        return 0;
    }
    size_t whole = (size_t)(feed_at - f->text) + 1, from = 0;
    if (f->overlong)
        from = (size_t)((const char *)memchr(f->text, '\n', whole) - f->text) + 1;
    struct log_lines l = {.text = f->text + from, .bytes = (int64_t)(whole - from)};
    f->overlong = false;
    if (!decide(f, &l, last)) {
        memmove(f->text, f->text + from, f->bytes - from);
        f->bytes -= from;
        return 0;
    }
    char *rest = xmalloc(f->bytes - whole + 1);
    memcpy(rest, f->text + whole, f->bytes - whole);
    memset(f->text + whole, 0, SCAN_PADDING);
    int r = feed(f, &l);
    memcpy(f->text, rest, f->bytes - whole);
    f->bytes -= whole;
    free(rest);
    return r < 0 ? -1 : many_wait(f) ? settle(f) : 0;
}

/* 1: something was read; 0: there is nothing more for now; -1 with error(). */
static int read_some(struct state *f)
{
    if (f->room < f->bytes + READ_BYTES + 1 + SCAN_PADDING) {
        f->room = 2 * f->bytes + READ_BYTES + 1 + SCAN_PADDING;
        f->text = xrealloc(f->text, f->room, 1);
    }
    ssize_t n = read(f->fd, f->text + f->bytes, READ_BYTES);
    if (n < 0 && errno == EINTR)
        return 1;
    if (n < 0)
        return error_errno("cannot read '%s'", f->o->path);
    f->bytes += (size_t)n;
    f->at += n;
    if (n > 0) {
        f->read_s = now_s();
        TRY(take_lines(f, false));
    }
    return n > 0;
}

/* A last line may have no end. */
static int take_rest(struct state *f, bool last)
{
    if (f->bytes > 0 && f->text[f->bytes - 1] != '\n')
        f->text[f->bytes++] = '\n';
    return f->bytes > 0 ? take_lines(f, last) : 0;
}

static void pause_at_rest(struct state *f)
{
    if (!f->foreign || f->paused || now_s() - f->read_s < PAUSE_S)
        return;
    foreign_pause(f->foreign);
    f->paused = f->news = true;
}

/* ---- the file ---- */

static int open_log(struct state *f)
{
    struct stat st;
    bool is_stdin = strcmp(f->o->path, "-") == 0;
    if (is_stdin)
        TRY(stdin_take());
    f->fd = is_stdin ? STDIN_FILENO : open(f->o->path, O_RDONLY | O_CLOEXEC);
    if (f->fd < 0)
        return errno == ENOENT ? 0 : error_errno("cannot open '%s'", f->o->path);
    if (fstat(f->fd, &st) < 0)
        return error_errno("cannot open '%s'", f->o->path);
    f->is_file = S_ISREG(st.st_mode);
    f->device = st.st_dev;
    f->inode = st.st_ino;
    f->at = 0;
    return 0;
}

/* A log of another name has taken this one's place, or it was cut. */
static bool replaced(const struct state *f)
{
    struct stat st, open_st;
    if (f->fd == STDIN_FILENO || stat(f->o->path, &st) < 0)
        return false;
    return st.st_ino != f->inode || st.st_dev != f->device ||
           (fstat(f->fd, &open_st) == 0 && open_st.st_size < f->at);
}

/* ---- telling ---- */

static int make(struct state *f, struct report *r)
{
    *r = (struct report){.log = &f->log};
    if (f->o->model)
        summary_count_flops(&f->log, f->o->model);
    TRY(summary_make(&r->s, &f->log, NULL, 0, f->o->known));
    r->s.steps += f->gone.steps;
    r->s.dropped += f->gone.dropped;
    r->s.overflow += f->gone.overflow;
    r->s.nan_steps += f->gone.nan_steps;
    r->s.evals += f->gone.evals;
    r->s.saves += f->gone.saves;
    r->s.save_s += f->gone.save_s;
    r->s.peak_bytes = fmax(r->s.peak_bytes, f->gone.peak_bytes);
    r->s.save_share = r->s.goodput = r->s.warmup_steps = NAN; /* of the whole run alone */
    return 0;
}

/* Columns of the terminal, or many. */
static int columns(FILE *out)
{
    struct winsize w;
    return ioctl(fileno(out), TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : INT_MAX;
}

static void put_known(FILE *to, const char *format, const char *text)
{
    if (strcmp(text, "-") != 0)
        fprintf(to, format, text);
}

static void say(const struct state *f, const struct summary *s)
{
    struct texts w = {0};
    char *line = NULL;
    size_t bytes;
    FILE *out = f->o->out, *to = open_memstream(&line, &bytes);
    if (!to)
        return;
    fprintf(to, "step %.0f", s->last_step);
    put_known(to, "  loss %s", text_as(&w, "%.4f", s->loss_last));
    put_known(to, "  %s tokens/s", text_number(&w, s->tokens_per_s));
    put_known(to, "  step %s s", text_number(&w, s->step_s));
    put_known(to, "  MFU %s", text_percent(&w, s->mfu, 1));
    put_known(to, "  load max/mean %s", text_number(&w, s->step_load_max_over_mean));
    put_known(to, "  dropped %s", text_count(&w, s->dropped));
    put_known(to, "  memory %s", text_bytes(&w, s->peak_bytes));
    if (s->nan_steps > 0)
        fprintf(to, "  not finite %.0f", s->nan_steps);
    if (s->restarts > 0)
        fprintf(to, "  restarts %.0f", s->restarts);
    if (s->faults > 0)
        fprintf(to, "  faults %.0f", s->faults);
    if (*f->log.end_reason)
        fprintf(to, "  ended: %s", f->log.end_reason);
    fclose(to);
    if (f->o->terminal) /* a line that were broken could not be drawn again */
        fprintf(out, "\r\033[K%.*s", columns(out), line);
    else
        fprintf(out, "%s\n", line);
    fflush(out);
    free(line);
}

static int tell(struct state *f)
{
    struct report r;
    struct output o;
    f->news = false;
    f->told_s = now_s();
    TRY(settle(f));
    if (!f->log.count)
        return 0;
    if (f->foreign)
        foreign_say(f->foreign, name_of(f));
    TRY(make(f, &r));
    if (!f->o->prom || f->o->terminal)
        say(f, &r.s);
    if (ferror(f->o->out))
        return error_errno("cannot write to standard output");
    if (!f->o->prom)
        return 0;
    TRY(output_open(&o, f->o->prom));
    report_prom(o.stream, &r);
    return output_commit(&o);
}

/* Until there is something to read, or time has come to tell or to look again: for a moment, as a signal that
 * came just before does not end it. */
static void wait_for(const struct state *f)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    double left = f->told_s + f->o->every_s - now_s();
    int ms = f->news && left < 0.25 ? (int)(1000 * fmax(0, left)) + 1 : 250;
    if (f->fd >= 0 && !f->is_file)
        poll(&p, 1, ms);
    else
        nanosleep(&(struct timespec){0, ms * 1000000L}, NULL);
}

static bool readable(const struct state *f)
{
    struct pollfd p = {.fd = f->fd, .events = POLLIN};
    return f->is_file || poll(&p, 1, 0) > 0;
}

/* What was still written to the file before another took its place is read too. */
static int leave_file(struct state *f)
{
    int more;
    while ((more = read_some(f)) > 0)
        ;
    if (more < 0)
        return -1;
    notice("'%s' is another file now: read from its beginning", f->o->path);
    close(f->fd);
    f->fd = -1;
    return take_rest(f, false);
}

static int follow(struct state *f)
{
    while (!stop) {
        int more = 0;
        if (f->fd < 0)
            TRY(open_log(f));
        bool ready = f->fd >= 0 && readable(f);
        if (ready && (more = read_some(f)) < 0)
            return -1;
        pause_at_rest(f);
        if (f->news && now_s() - f->told_s >= f->o->every_s)
            TRY(tell(f));
        if (more)
            continue;
        if (ready && !f->is_file)
            break; /* the pipe has ended */
        if (f->fd >= 0 && f->is_file && replaced(f)) {
            TRY(leave_file(f));
            continue;
        }
        wait_for(f);
    }
    if (!stop)
        TRY(take_rest(f, true));
    if (f->foreign && !f->paused) {
        foreign_pause(f->foreign);
        f->news = true;
    }
    if (f->news)
        TRY(tell(f));
    return stop || f->log.count ? 0 : error(STATUS_USAGE, "%s: the log has no step", f->o->path);
}

int follow_log(const struct follow *o)
{
    struct state f = {.o = o, .fd = -1, .told_s = -o->every_s, .gone.peak_bytes = NAN};
    struct sigaction act = {.sa_handler = on_signal};
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    json_object_seed(0);
    steplog_init(&f.log);
    f.log.hint = o->hint;
    f.log.step_spool.limit = f.log.eval_spool.limit = f.log.save_spool.limit =
        SIZE_MAX; /* they are bounded here */
    int r = follow(&f);
    if (o->terminal)
        fputc('\n', o->out);
    if (f.fd > STDIN_FILENO)
        close(f.fd);
    free(f.text);
    if (f.foreign)
        foreign_end(f.foreign);
    steplog_release(&f.log);
    return r;
}

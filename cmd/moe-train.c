/* SPDX-License-Identifier: MIT */
/* moe-train: runs a plan. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/launcher.h"
#include "base/memory.h"
#include "base/notice.h"
#include "base/options.h"
#include "comm/comm.h"
#include "probe/calibrate.h"
#include "probe/health.h"
#include "train/fault.h"
#include "train/loop.h"
#include "train/train.h"

static struct train_options o = {.steps = -1,
                                 .backend = "auto",
                                 .comm = "auto",
                                 .placement = "check",
                                 .capture = "on",
                                 .timeout_s = COMM_TIMEOUT_S,
                                 .eval_steps = 10,
                                 .loads_every = 100};
static bool no_shuffle;
static struct probe_options probe;
static bool health, calibrate;
#define HEALTH_TIMEOUT_S    30
#define HEALTH_TOLERANCE    0.4
#define CALIBRATE_TOLERANCE 0.15

#define LOSS(id, key, option, config, help, ...)                                                               \
    {0, option, "X", "coefficient of the " help " (config.json's)", OPT_NUM, &o.recipe.router_loss[id], 0, 1e6},

static const struct opt table[] = {
    {'p', "plan", "PLAN", "the plan to run (moe-partition makes one)", OPT_TEXT, &o.plan},
    {'d', "data", "DATA", "Megatron prefix or text file; several as 'w:A w:B'", OPT_TEXT, &o.data},
    {'s', "steps", "S", "train up to this step", OPT_INT, &o.steps, 0, 1e12},
    {0, "init", "HFDIR", "first weights from this Hugging Face directory", OPT_TEXT, &o.init},
    {0, "save", "ROOT", "checkpoints go to ROOT/step-NNNNNNNN", OPT_TEXT, &o.save},
    {0, "save-every", "N", "a checkpoint every N steps (at the end only)", OPT_INT, &o.save_every, 1, 1e12},
    {0, "keep", "N", "keep the newest N checkpoints (all)", OPT_INT, &o.keep, 1, 1e6},
    {0, "resume", "PATH", "go on from a checkpoint, or the newest under a root", OPT_TEXT, &o.resume},
    {0, "allow-config", "KEY,…", "config.json beside weights may differ from the plan's in these", OPT_TEXT,
     &o.allow_config},
    {0, "log", "FILE", "append the step log here (standard output)", OPT_TEXT, &o.log},
    {.help = "Numbers (a resumed run takes them from its checkpoint unless given):"},
    {0, "lr", "X", "peak learning rate (3e-4)", OPT_NUM, &o.recipe.lr, 0, 1e3},
    {0, "min-lr", "X", "final learning rate of cosine and wsd (0)", OPT_NUM, &o.recipe.min_lr, 0, 1e3},
    {0, "warmup", "N", "steps of linear warm-up (0)", OPT_INT, &o.recipe.warmup, 0, 1e12},
    {0, "lr-schedule", "NAME", "constant, cosine or wsd (constant)", OPT_CHOICE, &o.recipe.lr_schedule,
     .choices = "constant|cosine|wsd"},
    {0, "lr-steps", "N", "steps over which the schedule runs (--steps of the first start)", OPT_INT,
     &o.recipe.lr_steps, 1, 1e12},
    {0, "decay-steps", "N", "length of wsd's decay (a tenth of --lr-steps)", OPT_INT, &o.recipe.decay_steps, 0,
     1e12},
    {0, "beta1", "X", "AdamW (0.9)", OPT_BELOW, &o.recipe.beta1, 0, 1},
    {0, "beta2", "X", "AdamW (0.95)", OPT_BELOW, &o.recipe.beta2, 0, 1},
    {0, "eps", "X", "AdamW (1e-8)", OPT_NUM, &o.recipe.eps, 0, 1},
    {0, "weight-decay", "X", "AdamW, tensors of two or more dimensions (0.1)", OPT_NUM, &o.recipe.weight_decay,
     0, 1e3},
    {0, "clip", "X", "clip the gradient's global norm; 0: never (1)", OPT_NUM, &o.recipe.clip, 0, 1e9},
    {0, "seed", "N", "of first weights and data order (1)", OPT_INT, &o.recipe.seed, 0, 1e15},
    /* clang-format off */
    ROUTER_LOSS_ROWS(LOSS)
    /* clang-format on */
    {0, "bias-rate", "X", "rate of the aux-free router bias (config.json's)", OPT_NUM, &o.recipe.bias_rate, 0,
     1e3},
    {0, "shuffle", "yes|no", "samples in random order, or in that of the data (yes)", OPT_CHOICE,
     &o.recipe.shuffle, .choices = "yes|no"},
    {0, "no-shuffle", NULL, "the same as --shuffle no", OPT_FLAG, &no_shuffle},
    {.help = "Evaluation and reports:"},
    {0, "eval", "DATA", "evaluate on this data", OPT_TEXT, &o.eval},
    {0, "eval-every", "N", "every N steps (never)", OPT_INT, &o.eval_every, 1, 1e12},
    {0, "eval-steps", "N", "at most N global batches (10)", OPT_INT, &o.eval_steps, 1, 1e12},
    {0, "loads-every", "N", "log every expert's load each N steps; 0: never (100)", OPT_INT, &o.loads_every, 0,
     1e12},
    {0, "timeline", "A-B:FILE", "when each operation of steps A to B ran, for moe-stat", OPT_TEXT, &o.timeline},
    {.help = "Where and how:"},
    {0, "backend", "NAME", "%s (auto); ref and late are for tests", OPT_CHOICE, &o.backend, .choices = "auto",
     .words = &backend_words},
    {0, "comm", "NAME", "%s (auto)", OPT_CHOICE, &o.comm, .choices = "auto", .words = &comm_words},
    {0, "threads", "N", "threads a rank (its processors, shared fairly)", OPT_INT, &o.threads, 1, 4096},
    {0, "timeout", "S", "seconds to wait for a silent rank; 0: for ever (120)", OPT_NUM, &o.timeout_s, 0, 1e9},
    {0, "placement", "WHAT", "groups on other nodes than planned: check or warn (check)", OPT_CHOICE,
     &o.placement, .choices = "check|warn"},
    {0, "capture", "on|off", "a GPU gets microbatches whole, as graphs, where it can (on)", OPT_CHOICE,
     &o.capture, .choices = "on|off"},
    {0, "overlap", "on|off", "communication beside computation (the plan's)", OPT_CHOICE, &o.overlap,
     .choices = "on|off"},
    {0, "dry-run", NULL, "allocate, report bytes, run nothing", OPT_FLAG, &o.dry_run},
    {.help = "The machine:"},
    {0, "health", NULL, "measure ranks and links, name what is slow, run nothing", OPT_FLAG, &health},
    {0, "calibrate", NULL, "measure what a cluster file says of it, and write one", OPT_FLAG, &calibrate},
    {'c', "cluster", "CLUSTER", "what --health expects: a file or preset (the plan's, or local)", OPT_TEXT,
     &probe.cluster, .presets = "clusters"},
    {0, "tolerance", "X", "how much less than expected is well (0.4), or measurements vary (0.15)", OPT_NUM,
     &probe.tolerance, 0, 1e6},
    {0, "json", NULL, "the report as JSON, on one line", OPT_FLAG, &probe.json},
    {'o', "output", "FILE", "the report goes here (standard output)", OPT_TEXT, &probe.output},
    {.help = "For tests and debugging:"},
    {0, "dump-logits", "FILE", "logits of the first microbatch, as safetensors", OPT_TEXT, &o.dump_logits},
    {0, "dump-gradients", "DIR", "gradients of the first step, before clipping", OPT_TEXT, &o.dump_gradients},
    {0, "dump-routing", "PREFIX", "every routing decision, to PREFIX.RANK", OPT_TEXT, &o.dump_routing},
};

static const struct command command = {
    .name = "moe-train",
    .synopsis = "mpirun -n N moe-train -p PLAN -d DATA -s STEPS [options]\n"
                "mpirun -n N moe-train --dry-run -p PLAN\n"
                "mpirun -n N moe-train --health [-p PLAN] [-c CLUSTER]\n"
                "mpirun -n N moe-train --calibrate [-o CLUSTER.json]",
    .about = "run a plan: train, log, checkpoint, resume",
    OPTS(table),
    .notes =
        "Exit status: 0 done; 1 the run diverged, or the machine is not healthy; 2 bad usage or input; 3 "
        "the environment failed; 75 stopped by SIGUSR1 or SIGTERM after a checkpoint: run the same line again.",
};

/* From another thread, while this one waits for a rank in MPI. */
static void last_words(const struct comm_fault *f)
{
    if (health)
        health_last_words(&probe, f);
    else
        fault_report_early(&o, f);
    if (*error_text())
        command_failed(&command);
}

static int check_machine(void)
{
    if (health && calibrate)
        return error(STATUS_USAGE, "--health or --calibrate, not both");
    static const char *const takes[] = {"health",  "calibrate", "plan",    "save",      "backend", "comm",
                                        "threads", "timeout",   "cluster", "tolerance", "json",    "output"};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        bool taken = !table[i].name || !option_given(table[i].name);
        for (size_t k = 0; k < sizeof takes / sizeof *takes && !taken; k++)
            taken = strcmp(table[i].name, takes[k]) == 0;
        if (!taken)
            return error(STATUS_USAGE, "--%s trains nothing: it does not take --%s",
                         health ? "health" : "calibrate", table[i].name);
    }
    if (health && probe.tolerance >= 1)
        return error(STATUS_USAGE, "--tolerance %g: with 1 or more nothing would be slow", probe.tolerance);
    if (calibrate && (o.plan || o.save || probe.cluster || probe.json))
        return error(STATUS_USAGE, "--calibrate takes no --plan, --save, --cluster or --json");
    return 0;
}

static int check_usage(const char *operand)
{
    if (operand)
        return error(STATUS_USAGE, "takes no '%s': a plan goes behind -p, data behind -d (see 'moe-train -h')",
                     operand);
    if (health || calibrate)
        return check_machine();
    if (probe.cluster || probe.output || probe.json || option_given("tolerance"))
        return error(STATUS_USAGE,
                     "--cluster, --tolerance, --json and --output are for --health and --calibrate");
    if (!o.plan)
        return error(STATUS_USAGE, "needs --plan PLAN (moe-partition makes one)");
    if (o.dry_run)
        return 0;
    if (!o.data)
        return error(STATUS_USAGE, "needs --data DATA");
    if (o.steps < 0)
        return error(STATUS_USAGE, "needs --steps S");
    if (o.resume && !*o.resume)
        return error(STATUS_USAGE, "--resume '' names no checkpoint and no directory of them");
    if ((o.save_every || o.keep) && !o.save)
        return error(STATUS_USAGE, "--save-every and --keep need --save ROOT");
    if ((o.eval_every || option_given("eval-steps")) && !o.eval)
        return error(STATUS_USAGE, "--eval-every and --eval-steps need --eval DATA");
    return 0;
}

static char *command_line(int argc, char **argv)
{
    char *line = xstrdup(command.name);
    for (int i = 1; i < argc; i++) {
        char *longer = xasprintf(strpbrk(argv[i], " '\"$*") ? "%s '%s'" : "%s %s", line, argv[i]);
        free(line);
        line = longer;
    }
    return line;
}

static enum status ask_machine(struct comm **comm, bool *broken)
{
    if (!option_given("tolerance"))
        probe.tolerance = health ? HEALTH_TOLERANCE : CALIBRATE_TOLERANCE;
    probe.plan = o.plan;
    probe.save = o.save;
    probe.backend = o.backend;
    probe.comm = o.comm;
    probe.threads = o.threads;
    probe.timeout_s = option_given("timeout") ? o.timeout_s : HEALTH_TIMEOUT_S;
    probe.last_words = last_words;
    return health ? health_run(&probe, comm, broken) : calibrate_run(&probe, comm, broken);
}

int main(int argc, char **argv)
{
    o.recipe = recipe_defaults;
    char *line = command_line(argc, argv);
    int first = options_parse(&command, argc, argv);
    if (first < 0 || check_usage(argv[first]) < 0)
        return launcher_rank() == 0 ? command_failed(&command) : (int)error_status(); /* said once */
    if (no_shuffle)
        o.recipe.shuffle = "no";
    o.command_line = line;
    o.given = options_given(&command);
    o.last_words = last_words;
    train_hold_signals(o.save && launcher_kind() == LAUNCHER_NONE);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is then an error of the write, like a full disk */
    signal(SIGPIPE, SIG_IGN); /* and so it is when who reads the log has gone */

    struct comm *comm;
    bool broken;
    enum status status = health || calibrate ? ask_machine(&comm, &broken) : train_run(&o, &comm, &broken);
    progress_end();
    if (status != STATUS_DONE && status != STATUS_REQUEUE && *error_text()) {
        if (comm && comm_rank(comm) > 0)
            error_prefix("rank %d", comm_rank(comm));
        command_failed(&command);
    }
    if (broken)
        comm_abort(comm, status);
    comm_close(comm);
    free(line);
    if (stdout_close() < 0 && status == STATUS_DONE)
        status = command_failed(&command);
    if (status == STATUS_REQUEUE && train_interrupted())
        raise(SIGINT); /* saved: a shell's loop ends, too */
    return status;
}
